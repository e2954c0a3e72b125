#include "tests/support/log_fixture.h"

#include <algorithm>
#include <fstream>

#include "cordwood/segment/frame.h"
#include "tests/support/files.h"

namespace cordwood::testing {

using log::Log;

LogFixture::LogFixture(Options options) : options_(std::move(options)) {
  config_ = {.segment_bytes = options_.segment_bytes,
             .segment_age_ns = options_.segment_age == absl::InfiniteDuration()
                                   ? std::numeric_limits<std::int64_t>::max()
                                   : absl::ToInt64Nanoseconds(options_.segment_age),
             .index_interval_bytes = 4096,
             .message_bytes_max = 64 << 20,
             .append_time = options_.append_time};
  std::shared_ptr<os::Folder> root =
      options_.storage->OpenFolder(dir_.path(), {.create = true}).value();
  root->OpenFile("locks", os::OpenMode::kCreate).value();
  root->CreateFolder("0").IgnoreError();
  files_.root = root;
  files_.folder = "0";
  files_.topic_id = options_.storage->Random128();
  files_.name = std::make_shared<const cordwood::internal::PartitionName>(
      cordwood::internal::PartitionName{"test", 0});
  const os::Bits128 salt = options_.storage->Random128();
  segment::Segment::Create(files_, segment::SegmentFileName(0, ""), salt, options_.segment_bytes,
                           2 * segment::RecordsMax(options_.segment_bytes), 1)
      .IgnoreError();
  const log::Watermarks watermarks = {.salt = segment::SaltTag(salt),
                                      .position = segment::kFirstFrame};
  log::ControlFile::Create(*root, "control", files_.topic_id, options_.storage->BootId().value(),
                           {&watermarks, 1})
      .IgnoreError();
  Open();
}

std::shared_ptr<log::Context> LogFixture::NewContext(bool read_only) {
  auto context = std::make_shared<log::Context>(options_.storage, files_.root);
  context->live = log::LiveFlag::Create().value();
  if (!read_only) context->owners = os::LockOwners::Claim(*files_.root, 0).value();
  context->boot_id = options_.storage->BootId().value();
  return context;
}

std::shared_ptr<Log> LogFixture::OpenBeside() {
  return Log::Open(NewContext(), files_, config_,
                   log::ControlFile::Open(*files_.root, "control", files_.topic_id,
                                          os::Access::kReadWrite)
                       .value(),
                   0)
      .value();
}

void LogFixture::Kill() {
  log_.reset();
  control_.reset();
  context_.reset();
}

void LogFixture::Reboot() {
  auto control =
      log::ControlFile::Open(*files_.root, "control", files_.topic_id, os::Access::kReadWrite)
          .value();
  control->header().boot_id = os::Bits128{1, 2, 3};
}

log::RecoveredPartition LogFixture::Open(bool read_only) {
  context_ = NewContext(read_only);
  auto control = log::ControlFile::Open(*files_.root, "control", files_.topic_id,
                                        read_only ? os::Access::kRead : os::Access::kReadWrite);
  log::RecoveryInput input;
  input.files = files_;
  input.segment_bytes = options_.segment_bytes;
  input.read_only = read_only;
  if (control.ok()) {
    log::ControlBlock& block = (*control)->block(0);
    input.control = log::WatermarksOf(block);
    input.worth_trying = (*control)->IsWorthTrying(context_->boot_id);
    input.written_to = log::WrittenTo(block);
    input.sync_standing =
        block.sync_to.load() != 0 ||
        block.state.load() == static_cast<std::uint32_t>(log::PartitionState::kFailed);
  }
  log::RecoveredPartition recovered = log::RecoverPartition(*context_, input).value();
  if (read_only) {
    control_ = log::ControlFile::MakePrivate(files_.topic_id, {&recovered.watermarks, 1});
  } else {
    if (control.ok()) files_.root->Unlink("control").IgnoreError();
    log::ControlFile::Create(*files_.root, "control", files_.topic_id, context_->boot_id,
                             {&recovered.watermarks, 1})
        .IgnoreError();
    control_ =
        log::ControlFile::Open(*files_.root, "control", files_.topic_id, os::Access::kReadWrite)
            .value();
  }
  log_ = Log::Open(context_, files_, config_, control_, 0).value();
  return recovered;
}

Offset LogFixture::Append(const std::string& value) {
  return log_->Append({.value = value}, {}).value().offset;
}

void LogFixture::AppendMany(int n, const std::string& prefix) {
  for (int i = 0; i < n; ++i) Append(prefix + std::to_string(i));
}

std::vector<std::string> LogFixture::Values(Offset from) {
  log::Cursor cursor(log_, from < 0 ? log_->start_offset() : from);
  segment::CheckedFrame frame;
  std::vector<std::string> values;
  for (;;) {
    switch (cursor.Next(frame)) {
      case log::Cursor::Step::kRecord:
        values.emplace_back(cursor.View(frame).value().value_or("(none)"));
        break;
      case log::Cursor::Step::kGap:
        break;
      case log::Cursor::Step::kEnd:
        return values;
      case log::Cursor::Step::kError:
        values.push_back(cursor.status().ToString());
        return values;
    }
  }
}

std::vector<Gap> LogFixture::Gaps(Offset from) {
  log::Cursor cursor(log_, from < 0 ? log_->start_offset() : from);
  segment::CheckedFrame frame;
  std::vector<Gap> gaps;
  for (;;) {
    switch (cursor.Next(frame)) {
      case log::Cursor::Step::kRecord:
        break;
      case log::Cursor::Step::kGap:
        gaps.push_back(cursor.gap());
        break;
      case log::Cursor::Step::kEnd:
      case log::Cursor::Step::kError:
        return gaps;
    }
  }
}

std::filesystem::path LogFixture::SegmentPath(Offset base) const {
  return folder() / segment::SegmentFileName(base);
}

std::string LogFixture::Bytes(Offset base) const { return ReadAll(SegmentPath(base)); }

void LogFixture::SetBytes(const std::string& bytes, Offset base) {
  std::fstream file(SegmentPath(base), std::ios::binary | std::ios::in | std::ios::out);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

void LogFixture::FlipBit(std::uint64_t position, int bit, Offset base) {
  std::string bytes = Bytes(base);
  bytes[position] = static_cast<char>(bytes[position] ^ (1 << bit));
  SetBytes(bytes, base);
}

void LogFixture::ZeroFrom(std::uint64_t position, Offset base) {
  std::string bytes = Bytes(base);
  std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(position), bytes.end(), '\0');
  SetBytes(bytes, base);
}

std::vector<Offset> LogFixture::Bases() const {
  std::vector<Offset> bases;
  for (const auto& entry : std::filesystem::directory_iterator(folder())) {
    if (const auto base = segment::BaseOfFileName(entry.path().filename().string())) {
      bases.push_back(*base);
    }
  }
  std::sort(bases.begin(), bases.end());
  return bases;
}

std::uint64_t LogFixture::PositionOf(Offset offset) {
  log::Cursor cursor(log_, offset);
  segment::CheckedFrame frame;
  if (cursor.Next(frame) != log::Cursor::Step::kRecord) return 0;
  const char* start = reinterpret_cast<const char*>(cursor.segment()->data());
  return static_cast<std::uint64_t>(frame.body - start) - segment::kFrameHeaderBytes;
}

}  // namespace cordwood::testing
