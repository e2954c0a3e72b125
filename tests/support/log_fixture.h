// One partition without a broker around it, and a small language to test it with:
//
//   LogFixture log({.segment_bytes = 64 << 10});
//   log.Append("a");
//   log.Kill();                  // the process is gone: handles dropped, nothing closed
//   log.FlipBit(1024 + 60, 3);
//   log.Reboot();                // the control page is of another boot
//   log.Open();                  // recovers
//   CHECK(log.Values() == std::vector<std::string>{"a"});

#ifndef CORDWOOD_TESTS_SUPPORT_LOG_FIXTURE_H_
#define CORDWOOD_TESTS_SUPPORT_LOG_FIXTURE_H_

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "cordwood/log/context.h"
#include "cordwood/log/control.h"
#include "cordwood/log/cursor.h"
#include "cordwood/log/log.h"
#include "cordwood/log/recovery.h"
#include "tests/support/temp_dir.h"

namespace cordwood::testing {

class LogFixture {
 public:
  struct Options {
    std::uint64_t segment_bytes = 64 << 10;
    std::shared_ptr<Storage> storage = Storage::OperatingSystem();
    bool append_time = false;
    absl::Duration segment_age = absl::InfiniteDuration();
  };

  explicit LogFixture(Options options);
  LogFixture() : LogFixture(Options()) {}

  // Another open of the same log, as another process has it: its own slot and maps.
  std::shared_ptr<log::Log> OpenBeside();

  // What happened to the machine, and opening again as the first opener does.
  void Kill();
  void Reboot();
  log::RecoveredPartition Open(bool read_only = false);
  log::RecoveredPartition KillAndOpen() { return Kill(), Open(); }
  log::RecoveredPartition RebootAndOpen() { return Kill(), Reboot(), Open(); }

  Offset Append(const std::string& value);
  void AppendMany(int n, const std::string& prefix = "v");
  std::vector<std::string> Values(Offset from = -1);
  std::vector<Gap> Gaps(Offset from = -1);

  // The bytes of the segment with that base.
  std::filesystem::path SegmentPath(Offset base = 0) const;
  std::string Bytes(Offset base = 0) const;
  void SetBytes(const std::string& bytes, Offset base = 0);
  void FlipBit(std::uint64_t position, int bit, Offset base = 0);
  void ZeroFrom(std::uint64_t position, Offset base = 0);
  std::vector<Offset> Bases() const;
  // The position of the frame of that offset.
  std::uint64_t PositionOf(Offset offset);

  log::Log& operator*() { return *log_; }
  log::Log* operator->() { return log_.get(); }
  const std::shared_ptr<log::Log>& get() const { return log_; }
  log::ControlBlock& block() { return control_->block(0); }
  const std::shared_ptr<log::Context>& context() const { return context_; }
  const segment::PartitionFiles& files() const { return files_; }
  std::filesystem::path folder() const { return dir_.path() / "0"; }

 private:
  std::shared_ptr<log::Context> NewContext(bool read_only = false);

  TempDir dir_;
  Options options_;
  segment::PartitionFiles files_;
  log::LogConfig config_;
  std::shared_ptr<log::Context> context_;
  std::shared_ptr<log::ControlFile> control_;
  std::shared_ptr<log::Log> log_;
};

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_LOG_FIXTURE_H_
