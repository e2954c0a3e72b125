// The bytes of a segment file, opened, walked and read as a reader does, then sealed and indexed
// as a recovery does.
//
//   byte 0       what becomes right before it is used, as Right
//   2 bytes      the base
//   then         the file

#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "cordwood/log/cursor.h"
#include "cordwood/log/recovery.h"
#include "cordwood/segment/frame.h"
#include "cordwood/segment/walk.h"
#include "tests/fuzz/support.h"

using namespace cordwood;
using namespace cordwood::fuzz;
using segment::CheckedFrame;
using segment::CheckFrame;
using segment::FrameState;
using segment::kFirstFrame;
using segment::Segment;

namespace {

enum Right : std::uint8_t {
  kHeader = 1,  // magic, topic, partition and checksum
  kSeal = 2,    // its checksum
  kFrames = 4,  // the checks of headers and bodies, one behind the other
  kBodies = 8,  // with that: of headers only
  kGrown = 16,  // it has room behind its bytes
};

constexpr std::uint64_t kRoom = 8192;
constexpr std::int64_t kIndexInterval = 64;

void SignFrames(std::uint8_t right, std::string& bytes) {
  const auto header = Load<segment::SegmentHeader>(bytes, 0);
  const auto key = segment::SegmentKey::Make(header.salt, header.topic_id, header.partition);
  for (std::uint64_t at = kFirstFrame; at + segment::kFrameHeaderBytes <= bytes.size();) {
    auto frame = Load<segment::FrameHeader>(bytes, at);
    const std::uint64_t frame_bytes = frame.bytes_and_flags & ~segment::kFlagsMask;
    const std::uint64_t mix = segment::MixHeader(key, at, frame);
    frame.check = segment::HeaderCheck(mix);
    const std::uint64_t body_at = at + segment::kFrameHeaderBytes;
    std::uint64_t body = std::uint64_t{frame.value_bytes} + frame.key_bytes;
    if ((frame.bytes_and_flags & segment::kHasHeaders) != 0) {
      body += Load<std::uint32_t>(bytes, std::min<std::uint64_t>(body_at + body, bytes.size()));
    }
    if ((right & kBodies) == 0 && body <= bytes.size() - body_at) {
      frame.checksum = segment::Checksum(key, mix, os::Hash64(bytes.data() + body_at, body));
    }
    Store(frame, bytes, at);
    at += std::max<std::uint64_t>(frame_bytes, 8);
  }
}

std::string FileOf(std::uint8_t right, Offset base, std::string_view input) {
  std::string bytes(input);
  if ((right & kGrown) != 0) bytes.resize(std::max<std::size_t>(bytes.size(), kRoom));
  if ((right & kHeader) != 0) {
    auto header = Load<segment::SegmentHeader>(bytes, 0);
    header.magic = segment::kSegmentMagic;
    header.version = segment::kFormatVersion;
    header.topic_id = {};
    header.partition = 0;
    segment::Sign(header);
    Store(header, bytes, 0);
  }
  if ((right & kSeal) != 0) {
    auto seal = Load<segment::Seal>(bytes, segment::kSealPosition);
    seal.magic = segment::kSealMagic;
    seal.base = base;
    segment::Sign(seal, Load<segment::SegmentHeader>(bytes, 0).salt);
    Store(seal, bytes, segment::kSealPosition);
  }
  if ((right & kFrames) != 0) SignFrames(right, bytes);
  return bytes;
}

// Touches all of it.
void Use(const RecordView& record) {
  const OwnedRecord copy = record.Copy();
  Require(copy.key() == record.key() && copy.value() == record.value(),
          "a copy of a record is another one");
  auto of_copy = copy.headers().begin();
  for (const Header& header : record.headers()) {
    Require(header.key == of_copy->key && header.value.get() == of_copy->value.get(),
            "a copy of a record has other headers");
    ++of_copy;
  }
}

// What any position of the file says by itself, which is what a reader looks for past damage.
using Found = std::set<std::pair<Offset, const char*>>;
Found CheckFrames(const Segment& segment) {
  Found found;
  const std::uint64_t limit = segment.file_bytes();
  CheckedFrame frame;
  CheckedFrame unverified;
  for (std::uint64_t at = kFirstFrame; at < limit; at += 8) {
    const FrameState state = CheckFrame(segment.key(), segment.data(), at, limit, true, frame);
    const FrameState quick =
        CheckFrame(segment.key(), segment.data(), at, limit, false, unverified);
    Require(state == quick || (state == FrameState::kBadBody && quick == FrameState::kValid),
            "a frame is another one without its body's checksum");
    if (quick != FrameState::kValid) continue;
    const std::uint64_t end = at + unverified.frame_bytes;
    Require(end <= limit && unverified.frame_bytes >= segment::kFrameHeaderBytes,
            "a valid frame reaches past the end");
    Require(CheckFrame(segment.key(), segment.data(), at, end - 8, false, frame) ==
                FrameState::kPastEnd,
            "a frame is valid that reaches past the limit");
    Use(segment::ViewOf(unverified, segment.name()));
    if (state == FrameState::kValid) found.emplace(unverified.header.offset, unverified.body);
  }
  return found;
}

void CheckSeal(const Segment& segment, const segment::PartitionFiles& files) {
  const auto facts = Segment::ReadFacts(files, segment.base());
  Require(facts.ok() && std::memcmp(&facts->header, &segment.header(), sizeof facts->header) == 0,
          "a segment's facts are others than those of its map");
  const auto seal = segment.ReadSeal();
  Require(facts->seal.has_value() == seal.has_value() &&
              (!seal || std::memcmp(&*facts->seal, &*seal, sizeof *seal) == 0),
          "a seal is read in two ways");
  if (const auto end = segment.End()) {
    Require(end->next >= segment.base() && end->position >= kFirstFrame &&
                end->position <= segment.capacity() && end->position % 8 == 0,
            "a segment says that it ends outside of itself");
  }
}

// Of a log that this is the only segment of, as a read-only open finds it.
void ReadThroughLog(const Machine& machine, const segment::PartitionFiles& files,
                    const Segment& segment, const Found& found) {
  auto context = std::make_shared<log::Context>(machine.storage(), files.root);
  context->live = log::LiveFlag::Create().value();
  log::RecoveryInput input;
  input.files = files;
  input.read_only = true;
  const auto recovered = log::RecoverPartition(*context, input);
  if (!recovered.ok()) return;
  const auto control = log::ControlFile::MakePrivate({}, {&recovered->watermarks, 1});
  const auto log = log::Log::Open(context, files, log::LogConfig::Of({}), control, 0).value();
  log::Cursor cursor(log, log->start_offset());
  CheckedFrame frame;
  Offset next = log->start_offset();
  for (;;) {
    const log::Cursor::Step step = cursor.Next(frame);
    Require(cursor.next_offset() > next || step == log::Cursor::Step::kEnd ||
                step == log::Cursor::Step::kError,
            "a cursor does not get on");
    if (step == log::Cursor::Step::kEnd || step == log::Cursor::Step::kError) break;
    if (step == log::Cursor::Step::kRecord) {
      Require(frame.header.offset >= next && cursor.next_offset() == frame.header.offset + 1,
              "records are out of order");
      // The cursor has a map of its own.
      const char* body = reinterpret_cast<const char*>(segment.data()) +
                         (frame.body - reinterpret_cast<const char*>(cursor.segment()->data()));
      Require(found.contains({frame.header.offset, body}), "a record was read that is no frame");
      Use(cursor.View(frame));
    }
    next = cursor.next_offset();
  }
  log->OffsetForTime(1).IgnoreError();
  log->TotalBytes();
}

// As a recovery does, at the end of what is whole.
void SealAndIndex(const segment::PartitionFiles& files, Offset base) {
  const auto opened = Segment::Open(files, base, os::Access::kReadWrite);
  if (!opened.ok()) return;
  Segment& segment = **opened;
  const segment::FramesEnd end = segment::WalkFrames(segment, segment.file_bytes());
  Require(end.position >= kFirstFrame && end.position <= segment.file_bytes() && end.next >= base,
          "a walk ends outside of the segment");
  segment.Grow(std::min<std::uint64_t>(segment.capacity(), kRoom)).IgnoreError();
  const segment::FramesEnd again = segment::WalkFrames(segment, end.position);
  Require(again.position == end.position && again.next == end.next,
          "a walk up to where it ended ends elsewhere");
  segment.WriteSeal(end.ToSeal(segment::SealReason::kRecovered, 1));
  const auto seal = segment.ReadSeal();
  // An index entry has 32 bits for an offset, and so has a seal.
  if (end.next - base > (Offset{1} << 32)) return;
  Require(seal && seal->next == end.next && seal->end_position == end.position,
          "a segment was sealed and says something else");
  segment::RebuildIndex(segment, end.position, kIndexInterval);
  const segment::Index* index = segment.index();
  if (index == nullptr) return;
  CheckedFrame frame;
  for (std::uint64_t at = kFirstFrame; at < end.position; at += frame.frame_bytes) {
    Require(CheckFrame(segment.key(), segment.data(), at, end.position, true, frame) ==
                FrameState::kValid,
            "a frame that was walked over is none");
    const auto delta = static_cast<std::uint32_t>(frame.header.offset - base);
    const auto i = index->LastAtOrBeforeOffset(delta, index->Count());
    const auto entry = i ? index->At(*i) : std::nullopt;
    Require(entry && entry->offset_delta <= delta && entry->position <= at,
            "an index that was just made does not find a frame");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  const auto right = input.Take<std::uint8_t>();
  const Offset base = input.Take<std::uint16_t>();
  const std::string bytes = FileOf(right, base, input.rest());
  const Machine machine(2);
  const std::string stem = "0/" + segment::SegmentFileName(base, "");
  machine.Put({{"0/", ""}, {stem + ".log", bytes}});
  segment::PartitionFiles files;
  files.root = machine.storage()->OpenFolder(machine.directory(), {}).value();
  files.folder = "0";
  files.index_interval_bytes = kIndexInterval;
  files.name = std::make_shared<const internal::PartitionName>(
      internal::PartitionName{std::string(kTopic), 0});
  const auto salt = Load<segment::SegmentHeader>(bytes, 0).salt;
  Require(segment::Index::Create(*files.root, stem, salt).ok(), "no index could be made");

  const auto opened = Segment::Open(files, base, os::Access::kRead);
  if (opened.ok()) {
    const Segment& segment = **opened;
    Require(segment.file_bytes() <= bytes.size() && segment.file_bytes() <= segment.capacity(),
            "a segment is longer than its file");
    CheckSeal(segment, files);
    ReadThroughLog(machine, files, segment, CheckFrames(segment));
  } else {
    Require(absl::IsDataLoss(opened.status()), "what is wrong with a segment is no data loss");
    Require(!Segment::ReadFacts(files, base).ok(), "a segment that cannot be opened has facts");
  }
  SealAndIndex(files, base);
  return 0;
}
