#include "cordwood/log/control.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string>

#include "absl/strings/str_cat.h"
#include "cordwood/os/checksum.h"
#include "cordwood/os/doorbell.h"
#include "cordwood/segment/format.h"
#include "cordwood/status_macros.h"

namespace cordwood::log {

Watermarks WatermarksOf(const ControlBlock& block) {
  const TailView tail = ReadTail(block);
  return {.start = block.start.load(std::memory_order_acquire),
          .start_reason = block.start_reason.load(std::memory_order_relaxed),
          .base = tail.base,
          .salt = tail.salt,
          .records = tail.records,
          .position = tail.position,
          .durable = block.durable.load(std::memory_order_acquire),
          .tombstone_horizon = block.tombstone_horizon.load(std::memory_order_acquire),
          .compacted_to = block.compacted_to.load(std::memory_order_acquire),
          .last_append_ns = block.last_append_ns.load(std::memory_order_relaxed),
          .sync_to = block.sync_to.load(std::memory_order_relaxed),
          .bytes_before = block.bytes_before[tail.slot].load(std::memory_order_relaxed),
          .batches = block.batches.load(std::memory_order_relaxed),
          .batch_records = block.batch_records.load(std::memory_order_relaxed)};
}

void StoreWatermarks(const Watermarks& from, ControlBlock& block) {
  block.base[0].store(from.base, std::memory_order_relaxed);
  block.salt[0].store(from.salt, std::memory_order_relaxed);
  block.start.store(from.start, std::memory_order_relaxed);
  block.start_reason.store(from.start_reason, std::memory_order_relaxed);
  block.durable.store(from.durable, std::memory_order_relaxed);
  block.tombstone_horizon.store(from.tombstone_horizon, std::memory_order_relaxed);
  block.compacted_to.store(from.compacted_to, std::memory_order_relaxed);
  block.last_append_ns.store(from.last_append_ns, std::memory_order_relaxed);
  block.scratch_valid.store(0, std::memory_order_relaxed);
  block.intent.store(0, std::memory_order_relaxed);
  block.sync_to.store(from.sync_to, std::memory_order_relaxed);
  block.prepared.store(0, std::memory_order_relaxed);
  block.bytes_before[0].store(from.bytes_before, std::memory_order_relaxed);
  block.batches.store(from.batches, std::memory_order_relaxed);
  block.batch_records.store(from.batch_records, std::memory_order_relaxed);
  block.state.store(0, std::memory_order_relaxed);
  // Release: pairs with ReadTail().
  block.tail.store(Tail{0, from.records, from.position}.Pack(), std::memory_order_release);
}

std::uint64_t BytesProduced(const ControlBlock& block) {
  for (;;) {
    const TailView tail = ReadTail(block);
    const std::uint64_t before = block.bytes_before[tail.slot].load(std::memory_order_acquire);
    if (const TailView again = ReadTail(block); again.salt == tail.salt) {
      return before + again.position - segment::kFirstFrame;
    }
  }
}

namespace {

std::size_t BytesFor(std::size_t partitions) {
  return kControlHeaderBytes + partitions * sizeof(ControlBlock);
}

// No offset gets as far. What is beyond would overflow where offsets are added.
constexpr Offset kOffsetMax = Offset{1} << 62;

// A tail before the first frame would have records written over the segment's header.
bool ArePossible(const Watermarks& w) {
  const auto is_one = [](Offset offset) { return offset >= 0 && offset <= kOffsetMax; };
  return w.position >= segment::kFirstFrame && is_one(w.start) && is_one(w.base) &&
         is_one(w.durable) && is_one(w.tombstone_horizon) && is_one(w.compacted_to);
}

// Memory of this process that looks like a mapped file.
class PrivateMapping final : public os::Mapping {
 public:
  explicit PrivateMapping(std::size_t bytes)
      : Mapping(new (std::align_val_t{alignof(ControlBlock)}) std::byte[bytes]{}, bytes) {}
  ~PrivateMapping() override { operator delete[](data_, std::align_val_t{alignof(ControlBlock)}); }
  absl::Status Sync(std::size_t, std::size_t) override { return absl::OkStatus(); }
  absl::Status Populate(std::size_t, std::size_t) override { return absl::OkStatus(); }
};

}  // namespace

void ControlFile::Fill(std::byte* data, const os::Bits128& topic_id, const os::Bits128& boot_id,
                       const os::FileInfo& info, std::span<const Watermarks> partitions) {
  auto& header = *reinterpret_cast<ControlHeader*>(data);
  header.magic = ControlHeader::kMagic;
  header.version = segment::kFormatVersion;
  header.block_bytes = sizeof(ControlBlock);
  header.topic_id = topic_id;
  header.boot_id = boot_id;
  header.inode = info.inode;
  header.device = info.device;
  header.partitions.store(static_cast<std::uint32_t>(partitions.size()), std::memory_order_relaxed);
  auto* blocks = reinterpret_cast<ControlBlock*>(data + kControlHeaderBytes);
  for (std::size_t i = 0; i < partitions.size(); ++i) StoreWatermarks(partitions[i], blocks[i]);
  header.state.store(static_cast<std::uint32_t>(ControlState::kReady), std::memory_order_release);
}

void ControlFile::Attach(int partitions, const os::FileInfo& info) {
  header_ = reinterpret_cast<ControlHeader*>(mapping_->data());
  blocks_ = reinterpret_cast<ControlBlock*>(mapping_->data() + kControlHeaderBytes);
  partitions_.store(partitions, std::memory_order_release);
  inode_ = info.inode;
  device_ = info.device;
}

absl::Status ControlFile::Create(os::Folder& root, std::string_view path,
                                 const os::Bits128& topic_id, const os::Bits128& boot_id,
                                 std::span<const Watermarks> partitions) {
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::File> file,
                            root.OpenFile(path, os::OpenMode::kCreate));
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, file->Info());
  const std::size_t bytes = BytesFor(partitions.size());
  CORDWOOD_RETURN_IF_ERROR(file->Allocate(bytes));
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::Mapping> map,
                            file->Map(bytes, os::Access::kReadWrite));
  Fill(map->data(), topic_id, boot_id, info, partitions);
  return map->Sync(0, bytes);
}

std::shared_ptr<ControlFile> ControlFile::MakePrivate(const os::Bits128& topic_id,
                                                      std::span<const Watermarks> partitions) {
  auto control = std::shared_ptr<ControlFile>(new ControlFile());
  control->mapping_ = std::make_unique<PrivateMapping>(BytesFor(partitions.size()));
  Fill(control->mapping_->data(), topic_id, {}, {}, partitions);
  control->Attach(static_cast<int>(partitions.size()), {});
  return control;
}

absl::StatusOr<std::shared_ptr<ControlFile>> ControlFile::Open(os::Folder& root,
                                                               std::string_view path,
                                                               const os::Bits128& topic_id,
                                                               os::Access access) {
  CORDWOOD_ASSIGN_OR_RETURN(
      std::unique_ptr<os::File> file,
      root.OpenFile(path,
                    access == os::Access::kRead ? os::OpenMode::kRead : os::OpenMode::kReadWrite));
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, file->Info());
  const auto bad = [&](const char* what) {
    return absl::DataLossError(
        absl::StrCat(root.path(), "/", absl::string_view(path.data(), path.size()), ": ", what));
  };
  if (info.size < kControlHeaderBytes) return bad("shorter than a control file's header");
  // It may be sparse, and of any size.
  const std::uint64_t size = std::min<std::uint64_t>(info.size, BytesFor(kPartitionsMax));
  auto control = std::shared_ptr<ControlFile>(new ControlFile());
  CORDWOOD_ASSIGN_OR_RETURN(control->mapping_, file->Map(BytesFor(kPartitionsMax), access));
  control->mapping_->Fetch(0, size);
  const auto& header = *reinterpret_cast<const ControlHeader*>(control->mapping_->data());
  if (header.magic != ControlHeader::kMagic) return bad("not a control file");
  if (header.version != segment::kFormatVersion) return bad("of another format version");
  if (header.block_bytes != sizeof(ControlBlock)) return bad("its blocks are of another size");
  if (header.topic_id != topic_id) return bad("of another topic: it has another id");
  const std::uint32_t partitions = header.partitions.load(std::memory_order_acquire);
  if (partitions == 0 || partitions > (size - kControlHeaderBytes) / sizeof(ControlBlock)) {
    return bad("shorter than its number of partitions, or that is none");
  }
  control->Attach(static_cast<int>(partitions), info);
  for (int i = 0; i < control->partitions(); ++i) {
    if (!ArePossible(WatermarksOf(control->block(i)))) {
      return bad("says what can be no offset, or no position");
    }
  }
  return control;
}

// ---- Adding partitions

absl::StatusOr<std::unique_ptr<os::File>> ControlFile::OpenAgain(os::Folder& root,
                                                                 std::string_view path,
                                                                 os::OpenMode mode) const {
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::File> file, root.OpenFile(path, mode));
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, file->Info());
  if (info.inode == inode_ && info.device == device_) return file;
  return absl::DataLossError(absl::StrCat(root.path(), "/",
                                          absl::string_view(path.data(), path.size()),
                                          ": is not the file that is in use"));
}

void ControlFile::LookForMore(os::Folder& root, std::string_view path) {
  // Acquire: pairs with the release in SetPartitions(); the file is long enough by then.
  const std::uint32_t said = header_->partitions.load(std::memory_order_acquire);
  if (said <= static_cast<std::uint32_t>(partitions())) return;
  const absl::StatusOr<std::unique_ptr<os::File>> file = OpenAgain(root, path, os::OpenMode::kRead);
  if (!file.ok()) return;
  const absl::StatusOr<os::FileInfo> info = (*file)->Info();
  // What the page says is believed as far as the file has it.
  if (!info.ok() || said > kPartitionsMax || info->size < BytesFor(said)) return;
  partitions_.store(static_cast<int>(said), std::memory_order_release);
}

absl::Status ControlFile::AddBlocks(os::Folder& root, std::string_view path, int first,
                                    std::span<const Watermarks> added) {
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> file,
                            OpenAgain(root, path, os::OpenMode::kReadWrite));
  const std::size_t from = BytesFor(static_cast<std::size_t>(first));
  const std::size_t to = BytesFor(static_cast<std::size_t>(first) + added.size());
  CORDWOOD_RETURN_IF_ERROR(file->Allocate(to));
  // Who died over the same may have left something.
  std::memset(mapping_->data() + from, 0, to - from);
  for (std::size_t i = 0; i < added.size(); ++i) {
    StoreWatermarks(added[i], block(first + static_cast<int>(i)));
  }
  // From its first page on.
  return mapping_->Sync(from / kControlHeaderBytes * kControlHeaderBytes, to);
}

absl::Status ControlFile::SetPartitions(os::Folder& root, std::string_view path, int partitions) {
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> file,
                            OpenAgain(root, path, os::OpenMode::kRead));
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, file->Info());
  if (info.size < BytesFor(static_cast<std::size_t>(partitions))) {
    return absl::DataLossError(absl::StrCat(root.path(), "/",
                                            absl::string_view(path.data(), path.size()),
                                            ": is too short for ", partitions, " partitions"));
  }
  // Release: pairs with the acquire in LookForMore().
  header_->partitions.store(static_cast<std::uint32_t>(partitions), std::memory_order_release);
  partitions_.store(partitions, std::memory_order_release);
  return absl::OkStatus();
}

absl::Status ControlFile::Sync() const {
  return mapping_->Sync(0, BytesFor(static_cast<std::size_t>(partitions())));
}

bool ControlFile::IsWorthTrying(const os::Bits128& boot_id) const {
  return header_->boot_id == boot_id && header_->inode == inode_ && header_->device == device_ &&
         header_->state.load(std::memory_order_acquire) ==
             static_cast<std::uint32_t>(ControlState::kReady);
}

std::uint64_t ControlFile::WatermarkChecksum() const {
  std::vector<std::int64_t> words;
  const int count = partitions();
  words.reserve(static_cast<std::size_t>(count) * 9);
  for (int i = 0; i < count; ++i) {
    const Watermarks w = WatermarksOf(block(i));
    words.insert(words.end(), {w.start, w.start_reason, w.base, static_cast<std::int64_t>(w.salt),
                               w.records, static_cast<std::int64_t>(w.position), w.durable,
                               w.tombstone_horizon, w.compacted_to});
  }
  return os::Hash64(words.data(), words.size() * sizeof(words[0]));
}

void ControlFile::BeginConfigChange() const {
  // Release: pairs with the acquire in TopicFiles; who finds the new config has found this.
  header_->config_version.fetch_or(1, std::memory_order_acq_rel);
}

void ControlFile::EndConfigChange() const {
  // Odd already if it was begun. Release: who finds it even finds the new config.
  const std::uint64_t odd = header_->config_version.load(std::memory_order_relaxed) | 1;
  header_->config_version.store(odd + 1, std::memory_order_release);
}

void ControlFile::ResetSharedState(const os::Bits128& boot_id) {
  header_->boot_id = boot_id;
  header_->inode = inode_;
  header_->device = device_;
  // Who died over a change of the config. Up and not back: a read-only process may know an
  // earlier version, and is still there.
  if (header_->config_version.load(std::memory_order_relaxed) % 2 != 0) EndConfigChange();
  header_->bell.store(0, std::memory_order_relaxed);
  header_->sleepers.store(0, std::memory_order_relaxed);
  header_->ring_head.store(0, std::memory_order_relaxed);
  for (auto& entry : header_->ring) entry.store(0, std::memory_order_relaxed);
  for (int i = 0; i < partitions(); ++i) {
    ControlBlock& b = block(i);
    b.lock.Reset();
    b.sync_lock.Reset();
    b.scratch_valid.store(0, std::memory_order_relaxed);
    b.prepared.store(0, std::memory_order_relaxed);
    b.attention.store(0, std::memory_order_relaxed);
    b.durable_attention.store(0, std::memory_order_relaxed);
    b.room_wanted.store(0, std::memory_order_relaxed);
    b.state.store(0, std::memory_order_relaxed);
  }
  header_->state.store(static_cast<std::uint32_t>(ControlState::kReady), std::memory_order_release);
}

void ControlFile::RingTopic(int partition) const {
  const std::uint64_t i = header_->ring_head.fetch_add(1, std::memory_order_acq_rel);
  // Release: pairs with the acquire of a consumer that looks for entry i.
  header_->ring[i % ControlHeader::kRingSize].store(
      (i + 1) << 32 | static_cast<std::uint32_t>(partition), std::memory_order_release);
  header_->bell.fetch_add(1, std::memory_order_seq_cst);
  if (header_->sleepers.exchange(0, std::memory_order_seq_cst) != 0) {
    os::FutexWake(&header_->bell, os::kWakeAll);
  }
}

}  // namespace cordwood::log
