#include "tests/support/damaged_directory.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cordwood/consumer.h"
#include "cordwood/log/control.h"
#include "cordwood/log/cursor.h"
#include "log/clean_marker.h"
#include "tests/support/environment.h"

namespace cordwood::testing {
namespace {

namespace fs = std::filesystem;

constexpr char kControl[] = "topics/t/control";
constexpr char kConfig[] = "topics/t/config";
constexpr std::uint64_t kSealAt = 512;  // of a segment: before it, its header
constexpr Offset kCommits[] = {2, 5};
const absl::Time kFirstTime = absl::FromUnixSeconds(1'700'000'000);

absl::StatusOr<Broker> OpenIt(const fs::path& path) {
  return Broker::Open(path, {.background_threads = false, .reserve_bytes = 0});
}

// "partition offset vvv", now short and now long.
std::string ValueOf(int p, Offset offset) {
  std::string value = absl::StrCat(p, " ", offset, " ");
  value.resize(value.size() + static_cast<std::size_t>(offset * 37 % 251), 'v');
  return value;
}

void Copy(std::string& to, std::uint64_t at, const std::string& from, std::uint64_t from_at) {
  for (std::uint64_t i = 0; i < kSector && at + i < to.size() && from_at + i < from.size(); ++i) {
    to[at + i] = from[from_at + i];
  }
}

std::string TextOf(const PartitionReader& reader) {
  std::string text = reader.status().ToString();
  for (const Gap& gap : reader.gaps()) {
    absl::StrAppend(&text, ", gap ", gap.from, " to ", gap.to, " of reason ",
                    static_cast<int>(gap.reason));
  }
  return text;
}

bool IsFlushed(DamagedDirectory::End end) { return end == DamagedDirectory::End::kClosed; }

}  // namespace

// ---- Damages

void Damage::ApplyTo(FolderPicture& picture) const {
  std::string& bytes = picture.files.at(file);
  const std::string before = bytes;
  char& byte = bytes[at];
  switch (kind) {
    case Kind::kFlipBit:
      byte = static_cast<char>(byte ^ (1 << number));
      break;
    case Kind::kSetByte:
      byte = static_cast<char>(number);
      break;
    case Kind::kAddOne:
      byte = static_cast<char>(byte + 1);
      break;
    case Kind::kZeroSector:
      Copy(bytes, at, std::string(kSector, '\0'), 0);
      break;
    case Kind::kSwapSectors:
      Copy(bytes, at, before, at + kSector);
      Copy(bytes, at + kSector, before, at);
      break;
    case Kind::kCopySector:
      Copy(bytes, at, before, at - kSector);
      break;
    case Kind::kTakeSector:
      Copy(bytes, at, picture.files.at(source), at);
      break;
  }
}

std::uint64_t Damage::to() const {
  switch (kind) {
    case Kind::kFlipBit:
    case Kind::kSetByte:
    case Kind::kAddOne:
      return at + 1;
    case Kind::kSwapSectors:
      return at + 2 * kSector;
    case Kind::kZeroSector:
    case Kind::kCopySector:
    case Kind::kTakeSector:
      break;
  }
  return at + kSector;
}

std::string Damage::ToString() const {
  constexpr const char* kNames[] = {"bit flipped",       "byte set to",     "byte one up",
                                    "sector zeroed",     "sectors swapped", "sector copied",
                                    "sector taken from "};
  return absl::StrCat(file, " at ", at, ": ", kNames[static_cast<int>(kind)], " ", number, source);
}

void DamagedDirectory::ForEachDamage(std::uint64_t first, std::uint64_t stride,
                                     absl::FunctionRef<void(const Damage&)> f) const {
  std::uint64_t number = 0;
  const auto add = [&](const Damage& damage) {
    if (number++ % stride == first % stride) f(damage);
  };
  using Kind = Damage::Kind;
  for (const auto& [file, bytes] : whole_.files) {
    for (std::uint64_t at = 0; at < bytes.size(); ++at) {
      for (int bit = 0; bit < 8; ++bit) add({file, Kind::kFlipBit, at, bit});
      for (const int to : {0x00, 0xff}) add({file, Kind::kSetByte, at, to});
      add({file, Kind::kAddOne, at});
    }
    for (std::uint64_t at = 0; at < bytes.size(); at += kSector) {
      add({file, Kind::kZeroSector, at});
      if (at + kSector < bytes.size()) add({file, Kind::kSwapSectors, at});
      if (at > 0) add({file, Kind::kCopySector, at});
      // Of any other file of that kind.
      for (const auto& [source, other] : whole_.files) {
        const bool is_alike = fs::path(source).extension() == fs::path(file).extension();
        if (source != file && is_alike && at < other.size()) {
          add({file, Kind::kTakeSector, at, 0, source});
        }
      }
    }
  }
}

// ---- The directory

DamagedDirectory::DamagedDirectory(End end, std::int64_t segment_bytes)
    : end_(end), dir_(FolderInMemory()) {
  const Broker broker = OpenIt(path_).value();
  Fill(broker, segment_bytes);
  if (end == End::kClosed) broker.Close().IgnoreError();
  whole_ = FolderPicture::Of(path_);
  whole_.files.erase("locks");  // no bytes of it count, and others may have it open
  if (end == End::kPowerCut) {
    const os::Bits128 other_boot = {1, 2, 3};
    std::memcpy(whole_.files.at(kControl).data() + offsetof(log::ControlHeader, boot_id),
                other_boot.data(), other_boot.size());
  }
}

void DamagedDirectory::Fill(const Broker& broker, std::int64_t segment_bytes) {
  const Topic topic = broker
                          .CreateTopic("t", {.partitions = kPartitions,
                                             .segment_bytes = segment_bytes,
                                             .retention_age = absl::InfiniteDuration()})
                          .value();
  for (int p = 0; p < kPartitions; ++p) {
    const Partition partition = topic.partition(p);
    // Two segments and a part of a third; one and a part of a second.
    const std::int64_t bytes = segment_bytes * (5 - 2 * p) / 2;
    std::vector<Written>& written = written_[static_cast<std::size_t>(p)];
    for (std::int64_t sum = 0; sum < bytes;) {
      const Offset offset = std::ssize(written);
      written.push_back({.value = ValueOf(p, offset), .time = kFirstTime + absl::Seconds(offset)});
      sum += 56 + std::ssize(written.back().value);
    }
    const std::size_t undurable = IsFlushed(end_) ? 0 : 3;
    for (std::size_t i = 0; i < written.size(); ++i) {
      if (i + undurable == written.size()) partition.Flush().IgnoreError();
      partition.Append({.value = written[i].value, .timestamp = written[i].time}).value();
    }
    if (undurable == 0) partition.Flush().IgnoreError();
    durable_[static_cast<std::size_t>(p)] = std::ssize(written) - static_cast<Offset>(undurable);

    log::Cursor cursor(internal::LogOf(partition)->shared_from_this());
    segment::CheckedFrame frame;
    for (Written& record : written) {
      cursor.Next(frame);
      const auto* const start = reinterpret_cast<const char*>(cursor.segment()->data());
      record.from = static_cast<std::uint64_t>(frame.body - start) - segment::kFrameHeaderBytes;
      record.to = record.from + frame.frame_bytes;
      record.file = cursor.segment()->path();
    }
  }
  Consumer consumer = broker.NewConsumer({.group = "g"}).value();
  consumer.Assign({{"t", 0}}).IgnoreError();
  for (const Offset commit : kCommits) {
    const CommitOptions durably = {.durability = IsFlushed(end_) ? Durability::kDurable
                                                                 : Durability::kPublished};
    consumer.Commit({{{"t", 0}, commit}}, durably).IgnoreError();
  }
}

// With control pages, and a marker, that name the inodes of the files as they are now.
void DamagedDirectory::WriteDown(const FolderPicture& picture) const {
  if (!fs::exists(path_ / kControl)) picture.WriteTo(path_);
  FolderPicture now = picture;
  struct stat info = {};
  if (stat((path_ / kControl).c_str(), &info) != 0) return;
  const auto inode = static_cast<std::uint64_t>(info.st_ino);
  const auto at = offsetof(log::ControlHeader, inode);
  std::string& control = now.files.at(kControl);
  // Where the damage is in the inode itself, it stays.
  if (control.compare(at, sizeof inode, whole_.files.at(kControl), at, sizeof inode) == 0) {
    std::memcpy(control.data() + at, &inode, sizeof inode);
  }
  if (const auto marker = now.files.find(log::kCleanMarkerName); marker != now.files.end()) {
    std::vector<log::CleanEntry> entries = log::DecodeCleanMarker(marker->second);
    for (log::CleanEntry& entry : entries) entry.inode = inode;
    if (!entries.empty()) marker->second = log::EncodeCleanMarker(entries);
  }
  now.WriteTo(path_);
}

bool DamagedDirectory::MayBeLost(int p, Offset offset, const Damage& damage) const {
  if (damage.file == kConfig) return true;  // with another id none of the files is the topic's
  const std::vector<Written>& written = written_[static_cast<std::size_t>(p)];
  const auto is_hit = [&](const Written& record) {
    return record.file == damage.file &&
           ((damage.at < record.to && record.from < damage.to()) || damage.at < kSealAt);
  };
  if (is_hit(written[static_cast<std::size_t>(offset)])) return true;
  for (Offset other = durable_[static_cast<std::size_t>(p)]; other < offset; ++other) {
    if (is_hit(written[static_cast<std::size_t>(other)])) return true;
  }
  return false;
}

// ---- The checks

std::string DamagedDirectory::ProblemWith(const Damage& damage) {
  FolderPicture damaged = whole_;
  damage.ApplyTo(damaged);
  if (damaged == whole_) return "";
  WriteDown(damaged);
  const auto problem = [&](const auto&... words) {
    return absl::StrCat(damage.ToString(), ": ", words...);
  };
  absl::StatusOr<Broker> broker = OpenIt(path_);
  if (!broker.ok()) {
    return damage.file == "FORMAT" ? "" : problem("open: ", broker.status().ToString());
  }
  const absl::StatusOr<Topic> topic = broker->OpenTopic("t");
  if (!topic.ok()) return damage.file == kConfig ? "" : problem(topic.status().ToString());
  const bool is_told = !broker->recovery_report().items.empty();
  for (int p = 0; p < std::min(kPartitions, topic->partition_count()); ++p) {
    const std::string why = ProblemIn(topic->partition(p), p, damage, is_told);
    if (!why.empty()) return problem("partition ", p, ": ", why);
  }
  const std::string why = ProblemOfGroup(*broker);
  return why.empty() ? "" : problem("group: ", why);
}

std::string DamagedDirectory::ProblemIn(const Partition& partition, int p, const Damage& damage,
                                        bool is_told) {
  const std::vector<Written>& written = written_[static_cast<std::size_t>(p)];
  const auto count = std::ssize(written);
  absl::StatusOr<PartitionReader> reader = partition.Read(0);
  const bool starts_late = absl::IsOutOfRange(reader.status());
  if (starts_late) reader = partition.Read(partition.start_offset());
  if (!reader.ok()) return reader.status().ToString();
  std::vector<bool> found(written.size());
  Offset next = 0;
  for (const RecordView& record : *reader) {
    const Offset offset = record.offset();
    if (offset < next || offset >= count) return absl::StrCat("record ", offset, " nobody wrote");
    next = offset + 1;
    const Written& original = written[static_cast<std::size_t>(offset)];
    if (record.value() != original.value || record.timestamp() != original.time) {
      return absl::StrCat("record ", offset, " is not what was written");
    }
    found[static_cast<std::size_t>(offset)] = true;
  }
  const bool has_error = starts_late || !reader->status().ok();
  const std::span<const Gap> gaps = reader->gaps();
  for (Offset offset = 0; offset < count; ++offset) {
    if (found[static_cast<std::size_t>(offset)]) continue;
    const bool is_gap = std::any_of(gaps.begin(), gaps.end(), [&](const Gap& gap) {
      return gap.from <= offset && offset < gap.to;
    });
    const bool is_dropped = offset >= partition.end_offset() && is_told;
    if (!is_gap && !is_dropped && !has_error) {
      return absl::StrCat("record ", offset, " is missing in silence");
    }
    if (!MayBeLost(p, offset, damage)) {
      return absl::StrCat("record ", offset, " is lost, and was not hit: ", TextOf(*reader));
    }
  }
  if (const std::string why = ProblemOfLookups(partition, p, found); !why.empty()) return why;

  const absl::StatusOr<Offset> more = partition.Append({.value = "more"});
  if (!more.ok()) return absl::StrCat("append: ", more.status().ToString());
  // What was dropped and never durable may have been read by somebody: its offset is used up too.
  if (*more < count) return absl::StrCat("offset ", *more, " is given a second time");
  reader = partition.Read(*more);
  if (!reader.ok()) return reader.status().ToString();
  const auto it = reader->begin();
  if (it == reader->end() || it->value() != "more") return "what was appended cannot be read";
  return "";
}

// An index may lead to a place too early, never past what is asked for.
std::string DamagedDirectory::ProblemOfLookups(const Partition& partition, int p,
                                               const std::vector<bool>& found) const {
  const std::vector<Written>& written = written_[static_cast<std::size_t>(p)];
  for (std::size_t i = 0; i < written.size(); i += 1 + written.size() / 7) {
    const auto there = std::find(found.begin() + static_cast<std::ptrdiff_t>(i), found.end(), true);
    const Offset first = there - found.begin();
    if (there == found.end() || static_cast<Offset>(i) < partition.start_offset()) continue;
    absl::StatusOr<PartitionReader> reader = partition.Read(static_cast<Offset>(i));
    if (!reader.ok()) return reader.status().ToString();
    const auto it = reader->begin();
    const bool is_end = it == reader->end();
    if (is_end || it->offset() != first) {
      return absl::StrCat("a read from ", i, " does not begin with ", first, " but with ",
                          is_end ? -1 : it->offset(), ": ", reader->status().ToString());
    }
    const absl::StatusOr<Offset> at = partition.OffsetForTime(written[i].time);
    if (!at.ok() || *at != first) {
      return absl::StrCat("of the time of record ", i, " is ", at.ok() ? *at : -1, ", not ", first,
                          at.status().ToString());
    }
  }
  return "";
}

std::string DamagedDirectory::ProblemOfGroup(const Broker& broker) const {
  absl::StatusOr<Consumer> consumer = broker.NewConsumer({.group = "g"});
  if (!consumer.ok()) return "";  // in words: its image is damaged
  if (!consumer->Assign({{"t", 0}}).ok()) return "";
  const absl::StatusOr<std::optional<Offset>> at = consumer->committed({"t", 0});
  const bool was_made = !at.ok() || !*at || **at == kCommits[0] || **at == kCommits[1];
  return was_made ? "" : absl::StrCat("offset ", **at, " was never committed");
}

}  // namespace cordwood::testing
