// A disk, as a file of a FUSE file system, that writes down every write to it and every flush, in
// order, each with what a piece of shared memory held when it came:
//
//   SharedByForks<DayNotes> notes;
//   Recording recording(&*notes, sizeof(DayNotes), 64 << 20);
//   absl::Status mounted = recording.Mount(folder);       // the disk is folder/disk
//   ... a loop device over it, a file system on that, a program that writes to both ...
//   recording.Unmount();
//   for (std::size_t i = 0; i < recording.size(); ++i) ... recording.event(i) ...
//
// A process of its own answers the kernel. What it writes down outlives it.

#ifndef CORDWOOD_TESTS_BLOCK_RECORDING_H_
#define CORDWOOD_TESTS_BLOCK_RECORDING_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>

#include "absl/status/status.h"

namespace cordwood::testing {

class Recording {
 public:
  struct Event {
    std::uint64_t offset = 0;
    std::uint64_t size = 0;  // 0: a flush
    std::uint64_t data = 0;  // where it begins in the log
    std::uint64_t notes = 0;
    bool is_flush() const { return size == 0; }
  };

  Recording(const void* notes, std::size_t notes_bytes, std::uint64_t disk_bytes);
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;
  ~Recording();

  absl::Status Mount(const std::filesystem::path& folder);
  void Unmount();

  std::size_t size() const;
  const Event& event(std::size_t i) const;
  const std::byte* data(const Event& event) const;
  // What the memory held at that event.
  const void* notes(const Event& event) const;
  // More came than there is room for.
  bool is_full() const;
  std::uint64_t disk_bytes() const { return disk_bytes_; }

 private:
  struct Shared;
  struct Operations;  // what the kernel calls

  void Write(const void* from, std::uint64_t size, std::uint64_t offset);
  void Flush() { Add({}, nullptr); }
  void Add(Event event, const void* from);

  const std::byte* const live_notes_;
  const std::size_t notes_bytes_;
  const std::uint64_t disk_bytes_;
  std::byte* disk_;  // shared by forks, as all that follows
  Shared* shared_;
  Event* events_;
  std::byte* log_;
  std::byte* notes_;
  std::filesystem::path folder_ = {};
  pid_t server_ = -1;
};

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_BLOCK_RECORDING_H_
