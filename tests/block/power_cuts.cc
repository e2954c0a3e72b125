// T3 of the reliability plan: the power goes at any write to a real file system's disk.
//
//   cordwood_power_cuts [FILE_SYSTEM [IMAGES [SEED]]]      ext4, 300 and 1 if nothing is said
//
// A day in the life of a directory (tests/support/busy_day.h) goes by on a loop device over a file
// that writes down every block that is written and every flush (recording.h). Then the disk is put
// together again as it was at IMAGES moments of that day: with all that was written until then, or
// with any of the writes that no flush had covered, some of them torn. Each is mounted, which lets
// the file system recover, and the directory in it is held to what had been promised by then.
//
// At last the same with a disk that takes no notice of flushes. That must cost records: else this
// program would see nothing.
//
// It needs root, FUSE and loop devices: exits with 77 where it cannot have them, and says so.

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "cordwood/os/storage.h"
#include "cordwood/status_macros.h"
#include "tests/block/loop_device.h"
#include "tests/block/recording.h"
#include "tests/support/busy_day.h"
#include "tests/support/environment.h"
#include "tests/support/shared_by_forks.h"
#include "tests/support/temp_dir.h"

namespace cordwood::testing {
namespace {

constexpr int kSkipped = 77;

int Skip(const std::string& why) {
  std::printf("skipped: power cuts of a disk: %s\n", why.c_str());
  return kSkipped;
}

// As a machine is that was started again.
class NextBoot final : public Storage {
 public:
  absl::StatusOr<std::unique_ptr<os::Folder>> OpenFolder(
      const std::filesystem::path& path, const os::OpenFolderOptions& options) override {
    return real_->OpenFolder(path, options);
  }
  std::int64_t NowNanos() override { return real_->NowNanos(); }
  std::int64_t ElapsedNanos() override { return real_->ElapsedNanos(); }
  os::Bits128 Random128() override { return real_->Random128(); }
  absl::StatusOr<os::Bits128> BootId() override { return boot_; }

 private:
  const std::shared_ptr<Storage> real_ = Storage::OperatingSystem();
  const os::Bits128 boot_ = real_->Random128();
};

struct FileSystem {
  const char* name;
  const char* make;  // what makes one on a device
  std::uint64_t disk_bytes;
  std::uint64_t torn_at;  // what a disk writes whole, as far as this file system can bear it
};
constexpr FileSystem kFileSystems[] = {
    {"ext4", "mkfs.ext4 -q -F -E nodiscard", 64 << 20, 512},
    {"xfs", "mkfs.xfs -q -f -K -s size=4096", 320 << 20, 4096},
    {"btrfs", "mkfs.btrfs -q -f -K", 128 << 20, 4096},
};

// Runs `what` in a process of its own, which may die of it; "" or what it says, or how it died.
template <class F>
std::string InAnotherProcess(F what) {
  const SharedByForks<std::array<char, 1024>> said;
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    const std::string words = what();
    std::snprintf(said->data(), said->size(), "%s", words.c_str());
    _exit(0);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return "no process";
  if (WIFSIGNALED(status)) return absl::StrCat("died of signal ", WTERMSIG(status));
  if (WEXITSTATUS(status) != 0) return absl::StrCat("exited with ", WEXITSTATUS(status));
  return said->data();
}

struct Run {
  const FileSystem& of;
  const TempDir dir = TempDir(FolderInMemory());
  const std::filesystem::path mounted = dir / "mounted", image = dir / "image";
  const SharedByForks<DayNotes> notes = {};
  Recording recording = Recording(&*notes, sizeof(DayNotes), of.disk_bytes);
  std::size_t begin = 0;  // the first event after the file system was made

  // The day. kInternal: it went wrong; anything else: it cannot be had here.
  absl::Status Record() {
    std::filesystem::create_directory(mounted);
    std::filesystem::create_directory(dir / "fuse");
    CORDWOOD_RETURN_IF_ERROR(recording.Mount(dir / "fuse"));
    {
      CORDWOOD_ASSIGN_OR_RETURN(const LoopDevice disk, LoopDevice::Over(dir / "fuse/disk"));
      const std::string make = absl::StrCat(of.make, " ", disk.path(), " >/dev/null 2>&1");
      if (std::system(make.c_str()) != 0)
        return absl::NotFoundError(absl::StrCat(of.make, " failed"));
      begin = recording.size();
      CORDWOOD_ASSIGN_OR_RETURN(const MountedDisk live, MountedDisk::Mount(disk, of.name, mounted));
      const std::string problem = InAnotherProcess([&] {
        LiveThroughDay(mounted / "data", Storage::OperatingSystem(), *notes);
        return std::string();
      });
      if (!problem.empty()) return absl::InternalError(absl::StrCat("the day: ", problem));
    }
    recording.Unmount();
    if (recording.is_full()) return absl::InternalError("the day was too long for its recording");
    if (notes->errors > 0) return absl::InternalError("there were errors on that day");
    return absl::OkStatus();
  }

  // The disk as it was after the event `last`: what came after the event `flushed`, the last flush
  // that counts, is there as `random` has it, or all of it if there is none.
  void MakeImage(std::size_t last, std::size_t flushed, std::mt19937_64* random) const {
    std::filesystem::remove(image);
    const int file = open(image.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool ok = ftruncate(file, static_cast<off_t>(of.disk_bytes)) == 0;
    for (std::size_t i = 0; i <= last; ++i) {
      const Recording::Event& event = recording.event(i);
      const bool is_whole = i <= flushed || random == nullptr || (*random)() % 2 == 0;
      // The superblock is there or not: a file system cannot bear one that is torn.
      const std::uint64_t torn_at = std::max(of.torn_at, event.offset < 4096 ? event.size : 0);
      const std::uint64_t piece = is_whole ? event.size : torn_at;
      for (std::uint64_t at = 0; at < event.size; at += piece) {
        if (!is_whole && (*random)() % 2 == 0) continue;
        const std::uint64_t bytes = std::min(piece, event.size - at);
        ok &= pwrite(file, recording.data(event) + at, bytes,
                     static_cast<off_t>(event.offset + at)) == static_cast<ssize_t>(bytes);
      }
    }
    close(file);
    if (!ok) std::abort();  // no memory
  }

  // The next morning, in that image: "", or what is not as promised. An error: it cannot be looked
  // at.
  absl::StatusOr<std::string> Check(const DayNotes& promised, bool same_boot) const {
    CORDWOOD_ASSIGN_OR_RETURN(const LoopDevice disk, LoopDevice::Over(image));
    const auto live = MountedDisk::Mount(disk, of.name, mounted);
    if (!live.ok()) return live.status().ToString();
    return InAnotherProcess([&] {
      const std::shared_ptr<Storage> storage =
          same_boot ? Storage::OperatingSystem() : std::make_shared<NextBoot>();
      return ProblemAfterDay(mounted / "data", storage, promised, DayEnd::kPower);
    });
  }

  struct Result {
    int images = 0, problems = 0;
    absl::Status status;
  };
  // `images` moments, from the first to the last, or until they cannot be looked at. With
  // `flushes`, the disk heeds them.
  Result CutPower(int images, std::uint64_t seed, bool flushes) const {
    Result result;
    const std::size_t moments = recording.size() - begin;
    for (int k = 0; k < images; ++k) {
      std::mt19937_64 random(seed * 1'000'003 + static_cast<std::uint64_t>(k));
      // Which of them within its share of the day is the seed's choice.
      const double at = static_cast<double>(k) + static_cast<double>(random() % 1000) / 1000;
      const std::size_t last =
          begin + static_cast<std::size_t>(at * static_cast<double>(moments) / images);
      std::size_t flushed = last;
      while (flushed > begin && !(flushes && recording.event(flushed).is_flush())) --flushed;
      const bool all = flushes && k % 4 == 0;
      MakeImage(last, flushed, all ? nullptr : &random);
      const bool same_boot = random() % 2 == 0;
      const auto& promised = *static_cast<const DayNotes*>(recording.notes(recording.event(last)));
      const absl::StatusOr<std::string> problem = Check(promised, same_boot);
      if (!problem.ok()) {
        result.status = problem.status();
        break;
      }
      ++result.images;
      if (problem->empty()) continue;
      if (flushes) {
        // The day is never twice the same to the block: the first image that fails is kept.
        const std::filesystem::path kept =
            std::filesystem::temp_directory_path() / "cordwood-power-cut.image";
        if (result.problems == 0) {
          std::filesystem::copy_file(image, kept,
                                     std::filesystem::copy_options::overwrite_existing);
          std::printf("kept as %s:\n", kept.c_str());
        }
        std::printf("%s, seed %llu, image %d (event %zu of %zu, %s, %s): %s\n", of.name,
                    static_cast<unsigned long long>(seed), k, last - begin, moments,
                    all ? "all that was written" : "unflushed writes dropped or torn",
                    same_boot ? "same boot" : "next boot", problem->c_str());
      }
      ++result.problems;
    }
    return result;
  }
};

int Main(const std::string& name, int images, std::uint64_t seed) {
  const FileSystem* found = nullptr;
  for (const FileSystem& one : kFileSystems) {
    if (name == one.name) found = &one;
  }
  if (found == nullptr || images < 1) {
    std::fprintf(stderr, "usage: cordwood_power_cuts [ext4|xfs|btrfs [IMAGES [SEED]]]\n");
    return 2;
  }
  if (geteuid() != 0) return Skip("only root can mount a disk");
  Run run{.of = *found};
  if (const absl::Status recorded = run.Record(); !recorded.ok()) {
    if (!absl::IsInternal(recorded)) return Skip(recorded.ToString());
    std::printf("%s: %s\n", found->name, recorded.ToString().c_str());
    return 1;
  }
  const Run::Result honest = run.CutPower(images, seed, true);
  const Run::Result lying = run.CutPower(std::max(images / 10, 20), seed, false);
  for (const Run::Result& result : {honest, lying}) {
    if (!result.status.ok() && honest.problems == 0) return Skip(result.status.ToString());
  }
  std::printf(
      "Power cuts: %s, %zu writes and flushes, %d images with %d problems; of a disk that ignores "
      "flushes %d with %d\n",
      found->name, run.recording.size() - run.begin, honest.images, honest.problems, lying.images,
      lying.problems);
  return honest.problems == 0 && lying.problems > 0 ? 0 : 1;
}

}  // namespace
}  // namespace cordwood::testing

int main(int count, char** arguments) {
  return cordwood::testing::Main(count > 1 ? arguments[1] : "ext4",
                                 count > 2 ? std::atoi(arguments[2]) : 300,
                                 count > 3 ? std::strtoull(arguments[3], nullptr, 10) : 1);
}
