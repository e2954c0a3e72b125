// A log on a disk that can fail, and whose power can go.

#ifndef CORDWOOD_TESTS_SUPPORT_LOG_MACHINE_H_
#define CORDWOOD_TESTS_SUPPORT_LOG_MACHINE_H_

#include <limits>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cordwood/log/cursor.h"
#include "cordwood/segment/format.h"
#include "tests/support/failing_storage.h"
#include "tests/support/log_fixture.h"

namespace cordwood::testing {

inline constexpr AppendOptions kDurableAppend = {.durability = Durability::kDurable};

// The name of the file of the segment with that base.
inline std::string LogOf(Offset base) { return segment::SegmentFileName(base); }

struct LogMachine {
  explicit LogMachine(std::uint64_t segment_bytes = 64 << 10)
      : log({.segment_bytes = segment_bytes, .storage = disk}) {
    Settle();
  }
  void Settle() {
    disk->SettleNames();
    disk->Forget();
  }
  log::RecoveredPartition PowerCut() {
    log.Kill();
    disk->PowerCut();
    log::RecoveredPartition recovered = log.Open();
    Settle();
    return recovered;
  }
  void FailEverySync() {
    for (FailingStorage::Op op : {FailingStorage::Op::kMapSync, FailingStorage::Op::kFileSync,
                                  FailingStorage::Op::kSyncFolder}) {
      disk->Fail({.op = op, .times = FailingStorage::kAlways});
    }
  }
  // The syncs of that file, whatever its name is meanwhile.
  int SyncsOf(std::uint64_t inode) const {
    int n = 0;
    for (const auto& op : disk->operations()) {
      n += op.inode == inode &&
           (op.op == FailingStorage::Op::kMapSync || op.op == FailingStorage::Op::kFileSync);
    }
    return n;
  }
  std::uint64_t InodeOf(Offset base) {
    return log.files()
        .root->OpenFile(log.files().Path(segment::SegmentFileName(base)), os::OpenMode::kRead)
        .value()
        ->Info()
        .value()
        .inode;
  }
  std::set<Offset> Offsets() {
    log::Cursor cursor(log.get(), log->start_offset());
    segment::CheckedFrame frame;
    std::set<Offset> offsets;
    for (;;) {
      const log::Cursor::Step step = cursor.Next(frame);
      if (step == log::Cursor::Step::kRecord) offsets.insert(frame.header.offset);
      if (step != log::Cursor::Step::kRecord && step != log::Cursor::Step::kGap) return offsets;
    }
  }
  // Appends until there is another segment; its base.
  Offset Roll() {
    const std::size_t files = log.Bases().size();
    while (log.Bases().size() == files) log.Append(std::string(1000, 'r'));
    return log.Bases().back();
  }

  std::shared_ptr<FailingStorage> disk = FailingStorage::Make();
  LogFixture log;
};

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_LOG_MACHINE_H_
