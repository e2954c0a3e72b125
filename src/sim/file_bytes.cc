#include "sim/file_bytes.h"

#include <algorithm>
#include <cstring>

#include "cordwood/status_macros.h"

namespace cordwood::sim {
namespace {

constexpr std::uint64_t kChunk = 64 << 10;  // read at a time, a multiple of a page

std::uint64_t PageOf(std::uint64_t position) { return position / FileBytes::kPage; }
std::uint64_t PagesOf(std::uint64_t bytes) {
  return (bytes + FileBytes::kPage - 1) / FileBytes::kPage;
}

bool IsZero(const char* data, std::uint64_t bytes) {
  return std::all_of(data, data + bytes, [](char c) { return c == 0; });
}

}  // namespace

// ---- What processes do

absl::Status FileBytes::Write(const void* from, std::uint64_t bytes, std::uint64_t position) {
  CORDWOOD_RETURN_IF_ERROR(window_->Write(from, bytes, position));
  GrowTo(position + bytes);
  const std::uint64_t end = position + bytes;
  const std::uint64_t whole = end == size_ ? PagesOf(end) : PageOf(end);
  for (std::uint64_t page = PagesOf(position); page < whole; ++page) lost_.erase(page);
  return absl::OkStatus();
}

void FileBytes::GrowTo(std::uint64_t bytes) { size_ = std::max(size_, bytes); }

absl::Status FileBytes::PunchHole(std::uint64_t from, std::uint64_t to) {
  CORDWOOD_RETURN_IF_ERROR(window_->Clear(from, std::min(to, size_)));
  DropBlocks(from, to);
  return absl::OkStatus();
}

// ---- Blocks

std::uint64_t FileBytes::BlocksMissing(std::uint64_t from, std::uint64_t to) const {
  std::uint64_t missing = 0;
  for (std::uint64_t page = PageOf(from); page < PagesOf(to); ++page) {
    missing += page >= has_block_.size() || !has_block_[page];
  }
  return missing;
}

std::uint64_t FileBytes::AddBlocks(std::uint64_t from, std::uint64_t to, std::uint64_t limit) {
  if (has_block_.size() < PagesOf(to)) has_block_.resize(PagesOf(to));
  for (std::uint64_t page = PageOf(from); page < PagesOf(to); ++page) {
    if (has_block_[page]) continue;
    if (limit == 0) return std::max(from, page * kPage);
    --limit;
    has_block_[page] = true;
    ++block_count_;
  }
  return to;
}

void FileBytes::DropBlocks(std::uint64_t from, std::uint64_t to) {
  const std::uint64_t end = std::min<std::uint64_t>(PageOf(to), has_block_.size());
  for (std::uint64_t page = PagesOf(from); page < end; ++page) {
    if (!has_block_[page]) continue;
    has_block_[page] = false;
    --block_count_;
  }
}

// ---- What gets to the disk

absl::Status FileBytes::ForPages(
    std::uint64_t from, std::uint64_t to,
    absl::FunctionRef<void(std::uint64_t, const char*, std::uint64_t)> f) {
  to = std::min(PagesOf(to) * kPage, size_);
  std::string chunk;
  for (std::uint64_t at = PageOf(from) * kPage; at < to; at += kChunk) {
    chunk.resize(std::min(kChunk, to - at));
    CORDWOOD_RETURN_IF_ERROR(window_->Read(chunk.data(), chunk.size(), at));
    for (std::uint64_t in = 0; in < chunk.size(); in += kPage) {
      if (lost_.contains(PageOf(at + in))) continue;
      f(at + in, chunk.data() + in, std::min<std::uint64_t>(kPage, chunk.size() - in));
    }
  }
  return absl::OkStatus();
}

bool FileBytes::DiskHas(const char* data, std::uint64_t bytes, std::uint64_t position) const {
  const std::uint64_t there =
      position >= disk_.size() ? 0 : std::min<std::uint64_t>(bytes, disk_.size() - position);
  return (there == 0 || std::memcmp(data, disk_.data() + position, there) == 0) &&
         IsZero(data + there, bytes - there);
}

void FileBytes::PutOnDisk(const char* data, std::uint64_t bytes, std::uint64_t position) {
  if (disk_.size() < position + bytes) disk_.resize(position + bytes);
  std::memcpy(disk_.data() + position, data, bytes);
}

absl::Status FileBytes::Sync(std::uint64_t from, std::uint64_t to) {
  disk_.resize(size_);
  return ForPages(from, to, [&](std::uint64_t at, const char* data, std::uint64_t bytes) {
    PutOnDisk(data, bytes, at);
  });
}

absl::Status FileBytes::FailSync(std::uint64_t from, std::uint64_t to, Random& random) {
  const std::uint64_t mood = random.Mood();
  return ForPages(from, to, [&](std::uint64_t at, const char* data, std::uint64_t bytes) {
    if (DiskHas(data, bytes, at)) return;  // it was clean
    lost_.insert(PageOf(at));
    for (std::uint64_t in = 0; in < bytes; in += kSector) {
      if (!random.Chance(mood, 8)) continue;
      PutOnDisk(data + in, std::min(kSector, bytes - in), at + in);
    }
  });
}

absl::Status FileBytes::WriteBackSomePage(Random& random) {
  if (size_ == 0) return absl::OkStatus();
  const std::uint64_t at = random.Below(PagesOf(size_)) * kPage;
  return ForPages(at, at + 1, [&](std::uint64_t position, const char* data, std::uint64_t bytes) {
    if (!DiskHas(data, bytes, position)) PutOnDisk(data, bytes, position);
  });
}

// ---- What happens to the machine

absl::Status FileBytes::LeaveToTheDead() {
  if (!is_open()) return absl::OkStatus();
  std::shared_ptr<Window> copy = cache_->NewWindow();
  std::string chunk;
  for (std::uint64_t at = 0; at < size_; at += kChunk) {
    chunk.resize(std::min(kChunk, size_ - at));
    CORDWOOD_RETURN_IF_ERROR(window_->Read(chunk.data(), chunk.size(), at));
    if (!IsZero(chunk.data(), chunk.size())) {
      CORDWOOD_RETURN_IF_ERROR(copy->Write(chunk.data(), chunk.size(), at));
    }
  }
  window_ = std::move(copy);
  return absl::OkStatus();
}

absl::Status FileBytes::CutPower(Random& random) {
  std::uint64_t size = disk_.size();
  if (size < size_) {
    const std::uint64_t choice = random.Below(3);
    if (choice == 1) size = size_;
    if (choice == 2) size += random.Below((size_ - size) / kSector + 1) * kSector;
  }
  const std::uint64_t mood = random.Mood();
  CORDWOOD_RETURN_IF_ERROR(
      ForPages(0, size, [&](std::uint64_t page, const char* data, std::uint64_t bytes) {
        if (DiskHas(data, bytes, page)) return;
        for (std::uint64_t in = 0; in < bytes; in += kSector) {
          const std::uint64_t here = std::min(kSector, bytes - in);
          if (DiskHas(data + in, here, page + in) || !random.Chance(mood, 8)) continue;
          PutOnDisk(data + in, here, page + in);
        }
      }));
  disk_.resize(size);
  size_ = size;
  lost_.clear();
  // Who has it mapped is dead, and keeps the old window.
  window_ = cache_->NewWindow();
  for (std::uint64_t at = 0; at < size_; at += kChunk) {
    const std::uint64_t bytes = std::min(kChunk, size_ - at);
    if (IsZero(disk_.data() + at, bytes)) continue;
    CORDWOOD_RETURN_IF_ERROR(window_->Write(disk_.data() + at, bytes, at));
  }
  DropBlocks(PagesOf(size_) * kPage, has_block_.size() * kPage);
  return absl::OkStatus();
}

absl::Status FileBytes::FlipBit(std::uint64_t position, int bit) {
  char byte = 0;
  CORDWOOD_RETURN_IF_ERROR(window_->Read(&byte, 1, position));
  const bool is_on_disk = position < disk_.size() && disk_[position] == byte;
  byte = static_cast<char>(byte ^ (1 << bit));
  if (is_on_disk) disk_[position] = byte;
  return window_->Write(&byte, 1, position);
}

}  // namespace cordwood::sim
