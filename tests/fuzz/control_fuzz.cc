// The bytes of a topic's control file, beside good segments. It may cost records, and what is
// appended afterwards stays.
//
//   byte 0   what becomes right before it is used, as Right
//   then     the file; with kHeader the blocks only, behind the page that was there

#include "cordwood/log/control.h"
#include "log/clean_marker.h"
#include "tests/fuzz/support.h"

using namespace cordwood;
using namespace cordwood::fuzz;

namespace {

enum Right : std::uint8_t {
  kHeader = 1,    // the first page
  kIdentity = 2,  // what says that it is a control file, and of which topic
  kBelieved = 4,  // it is of this boot, and the file it says it is
  kMarked = 8,    // the marker of a clean close says the same, which is forged
};

const std::string kPath = std::string("topics/") + kTopic + "/control";

void MakeRight(std::uint8_t right, std::string& bytes) {
  const std::string& good = Prepare().closed.at(kPath);
  const auto copy = [&](std::size_t at, std::size_t count) {
    if (at + count <= bytes.size()) bytes.replace(at, count, good, at, count);
  };
  if ((right & kIdentity) != 0) {
    copy(0, offsetof(log::ControlHeader, boot_id));
    if (Load<std::uint32_t>(bytes, offsetof(log::ControlHeader, partitions)) == 0) {
      copy(offsetof(log::ControlHeader, partitions), sizeof(std::uint32_t));
    }
  }
  if ((right & kBelieved) != 0) {
    Store(BootId(), bytes, offsetof(log::ControlHeader, boot_id));
    Store(static_cast<std::uint32_t>(log::ControlState::kReady), bytes,
          offsetof(log::ControlHeader, state));
  }
}

// Everything that is asked of a control file by itself.
void Ask(os::Folder& root, os::Access access) {
  const auto control = log::ControlFile::Open(root, kPath, TopicId(), access);
  if (!control.ok()) return;
  log::ControlFile& file = **control;
  Require(file.partitions() > 0, "a control file was opened that has no partitions");
  const auto handle = root.OpenFile(kPath, os::OpenMode::kRead).value();
  Require(log::kControlHeaderBytes + static_cast<std::uint64_t>(file.partitions()) * 256 <=
              handle->Info()->size,
          "a control file was opened that is shorter than its partitions");
  file.LookForMore(root, kPath);
  for (int i = 0; i < file.partitions(); ++i) {
    const log::TailView tail = log::ReadTail(file.block(i));
    const log::Watermarks marks = log::WatermarksOf(file.block(i));
    Require(tail.end() == marks.end() && tail.position == marks.position,
            "the tail of a control block is read in two ways");
  }
  const std::uint64_t checksum = file.WatermarkChecksum();
  static_cast<void>(file.IsWorthTrying(BootId()));
  if (access == os::Access::kRead) return;
  file.ResetSharedState(BootId());
  Require(file.IsWorthTrying(BootId()), "a control file that was reset is not believed");
  Require(file.WatermarkChecksum() == checksum, "a reset of what is shared moves the watermarks");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  const auto right = input.Take<std::uint8_t>();
  Tree tree = Prepare().open;
  std::string& bytes = tree[kPath];
  if ((right & kHeader) != 0) {
    bytes.resize(log::kControlHeaderBytes);
  } else {
    bytes.clear();
  }
  bytes.append(input.rest());
  MakeRight(right, bytes);
  {
    const Machine machine(3);
    machine.Put(tree);
    if ((right & kBelieved) != 0) machine.Adopt();
    const auto root = machine.storage()->OpenFolder(machine.directory(), {}).value();
    Ask(*root, os::Access::kRead);
    Ask(*root, os::Access::kReadWrite);
  }
  const Machine machine(2);
  machine.Put(tree);
  if ((right & kBelieved) != 0) machine.Adopt();
  if ((right & kMarked) != 0) {
    const auto root = machine.storage()->OpenFolder(machine.directory(), {}).value();
    const auto control = log::ControlFile::Open(*root, kPath, TopicId(), os::Access::kRead);
    if (control.ok()) {
      const log::CleanEntry entry = log::CleanEntry::Of(**control);
      Require(log::WriteCleanMarker(*root, {&entry, 1}).ok(), "no marker could be written");
    }
  }
  CheckDirectory(machine, Prepare().truth, {.is_whole = false, .keeps = (right & kMarked) == 0});
  return 0;
}
