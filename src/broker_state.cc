#include "broker_state.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "cordwood/group/needs.h"
#include "cordwood/os/clock.h"
#include "cordwood/status_macros.h"

namespace cordwood::internal {
namespace {

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
// How long Close waits for what other processes hold, and how long the thread sleeps at most
// before it looks whether somebody has begun to append.
constexpr absl::Duration kCloseTimeout = absl::Seconds(5);
constexpr absl::Duration kLookInterval = absl::Milliseconds(100);
// Retention goes through all partitions so often, and for so long at a time.
constexpr absl::Duration kRetentionInterval = absl::Seconds(1);
constexpr absl::Duration kStep = absl::Milliseconds(10);

std::int64_t NanosAfter(std::int64_t now, absl::Duration duration) {
  const std::int64_t ns = absl::ToInt64Nanoseconds(std::max(duration, absl::ZeroDuration()));
  return ns > kNever - now ? kNever : now + ns;
}

}  // namespace

// ---- Maintenance

absl::Status Maintenance::FlushPass(std::int64_t deadline_ns) {
  absl::Status status;
  {
    // Somebody is at it: a callback of a flush may have led here, so this never waits.
    if (!pass_mutex_.TryLock()) return absl::OkStatus();
    // First what was committed, then the data, then the commits: what they speak of is
    // durable before they are (rule 23).
    const group::GroupStore::Snapshot committed = groups_->Take();
    status = directory_->TryFlushAll(deadline_ns);
    // An acknowledgement may be on the disk before its record is (group/share.h).
    const absl::Status shared = shares_->SyncAll();
    if (status.ok() && !committed.empty()) status = groups_->WriteDurable(committed);
    status.Update(shared);
    pass_mutex_.Unlock();
  }
  directory_->RunCallbacks();
  return status;
}

void Maintenance::Retain(std::int64_t deadline_ns) {
  directory_->RetainAll(deadline_ns);
  CheckDisk();
}

void Maintenance::EndCompaction() {
  absl::MutexLock lock(&compaction_mutex_);
  compaction_has_ended_ = true;
  compaction_.End();
}

bool Maintenance::Compact(std::int64_t deadline_ns) {
  if (!compaction_mutex_.TryLock()) return false;
  const bool more = !compaction_has_ended_ && compaction_.Step(deadline_ns);
  compaction_mutex_.Unlock();
  return more;
}

void Maintenance::CheckDisk() {
  const log::Context& context = *directory_->context();
  if (context.reserve != nullptr && context.reserve->is_spent()) context.reserve->Refill();
  const absl::StatusOr<os::FileSystemInfo> info = context.root->FileSystem();
  if (!info.ok()) return;
  const bool is_low = info->free_bytes < low_disk_bytes_;
  // Told of again only after there has been a tenth more than that: it goes up and down.
  const bool is_well = info->free_bytes >= low_disk_bytes_ + low_disk_bytes_ / 10;
  if (is_well) disk_is_low_.store(false, std::memory_order_relaxed);
  if (!is_low || disk_is_low_.exchange(true, std::memory_order_relaxed)) return;
  if (on_low_disk_) on_low_disk_(info->free_bytes);
}

bool Maintenance::PrepareAhead(std::int64_t deadline_ns) {
  return directory_->PrepareAheadAll(deadline_ns);
}

void Maintenance::Run(absl::Duration flush_interval) {
  const absl::Duration interval = std::max(flush_interval, absl::Milliseconds(1));
  // Ahead of a busy writer more often: it goes through what was made ready in milliseconds.
  const absl::Duration step =
      std::clamp(interval / 20, absl::Milliseconds(1), absl::Milliseconds(50));
  std::int64_t next_flush = NanosAfter(os::MonotonicNanos(), interval);
  // What age and groups let go; what is too many bytes goes when a segment is closed.
  std::int64_t next_retention = os::MonotonicNanos();
  bool busy = false;
  bool compacts = false;
  for (;;) {
    const absl::Duration until_flush = absl::Nanoseconds(next_flush - os::MonotonicNanos());
    {
      absl::MutexLock lock(&mutex_);
      mutex_.AwaitWithTimeout(absl::Condition(&stop_),
                              std::min(until_flush, busy || compacts ? step : kLookInterval));
      if (stop_) return;
    }
    if (os::MonotonicNanos() >= next_flush) {
      // Whoever asks for durability hears of errors; what was not done is done next time.
      FlushPass(kNever).IgnoreError();
      next_flush = NanosAfter(os::MonotonicNanos(), interval);
    }
    busy = PrepareAhead(kNever);
    if (os::MonotonicNanos() >= next_retention) {
      Retain(NanosAfter(os::MonotonicNanos(), kStep));
      compacts = true;
      next_retention = NanosAfter(os::MonotonicNanos(), kRetentionInterval);
    }
    // Short steps, so that what is published becomes durable in time.
    if (compacts) compacts = Compact(NanosAfter(os::MonotonicNanos(), kStep));
  }
}

void Maintenance::Stop() {
  absl::MutexLock lock(&mutex_);
  stop_ = true;
}

// ---- BrokerState

absl::StatusOr<std::shared_ptr<BrokerState>> BrokerState::Open(const std::filesystem::path& path,
                                                               const BrokerOptions& options) {
  using ContextPtr = std::shared_ptr<const log::Context>;
  const auto needs = std::make_shared<group::GroupNeeds>();
  log::DirectoryHooks hooks;
  hooks.needs = needs;
  hooks.first_open = [](const ContextPtr& context) -> absl::Status {
    CORDWOOD_ASSIGN_OR_RETURN(const auto groups, group::GroupStore::Open(context));
    return groups->Sweep();
  };
  hooks.last_close = [](const ContextPtr& context) -> absl::Status {
    CORDWOOD_ASSIGN_OR_RETURN(const auto groups, group::GroupStore::Open(context));
    absl::Status status = group::SyncShareFiles(*context);
    status.Update(groups->WriteAll());
    return status;
  };
  RecoveryReport report;
  CORDWOOD_ASSIGN_OR_RETURN(std::shared_ptr<log::Directory> directory,
                            log::Directory::Open(path, options, std::move(hooks), report));
  CORDWOOD_ASSIGN_OR_RETURN(std::shared_ptr<group::GroupStore> groups,
                            group::GroupStore::Open(directory->context()));
  needs->Bind(groups);
  auto state = std::shared_ptr<BrokerState>(
      new BrokerState(options, std::move(directory), std::move(groups), std::move(report)));
  if (options.background_threads && !options.read_only) {
    CORDWOOD_RETURN_IF_ERROR(state->StartThread());
  }
  return state;
}

BrokerState::BrokerState(const BrokerOptions& options, std::shared_ptr<log::Directory> directory,
                         std::shared_ptr<group::GroupStore> groups, RecoveryReport report)
    : options_(options),
      report_(std::move(report)),
      directory_(std::move(directory)),
      groups_(std::move(groups)),
      shares_(std::make_shared<group::ShareStore>()),
      maintenance_(std::make_shared<Maintenance>(directory_, groups_, shares_, options_)) {}

BrokerState::~BrokerState() { Close().IgnoreError(); }

// POSIX's own threads: they say in a value that there are no more to be had, and one that a
// fork has left behind in the parent needs no joining.
absl::Status BrokerState::StartThread() {
  struct Work {
    std::shared_ptr<Maintenance> maintenance;
    absl::Duration flush_interval;
  };
  // Of its own: the thread may outlive this, when the last handle goes in a callback on it.
  auto work = std::make_unique<Work>(Work{maintenance_, options_.flush_interval});
  const int error = pthread_create(
      &thread_, nullptr,
      [](void* argument) -> void* {
        const std::unique_ptr<Work> own(static_cast<Work*>(argument));
        own->maintenance->Run(own->flush_interval);
        return nullptr;
      },
      work.get());
  if (error != 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no thread for the work in the background (pthread_create: error ", error,
                     "); open with background_threads = false and call Maintain"));
  }
  static_cast<void>(work.release());  // the thread's
  has_thread_.store(true, std::memory_order_release);
  return absl::OkStatus();
}

void BrokerState::StopThread() {
  if (!has_thread_.exchange(false, std::memory_order_acq_rel)) return;
  maintenance_->Stop();
  if (pthread_equal(thread_, pthread_self())) {
    pthread_detach(thread_);  // a callback on it closes the broker
  } else {
    pthread_join(thread_, nullptr);
  }
}

absl::StatusOr<DiskSpace> BrokerState::DescribeDisk() const {
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileSystemInfo info, context().root->FileSystem());
  DiskSpace disk = {.free_bytes = info.free_bytes,
                    .is_low = info.free_bytes < options_.low_disk_bytes};
  if (const log::Reserve* reserve = context().reserve.get(); reserve != nullptr) {
    disk.reserve_bytes = static_cast<std::int64_t>(reserve->bytes());
    disk.reserve_is_spent = reserve->is_spent();
  }
  return disk;
}

absl::Status BrokerState::Maintain(absl::Duration budget) {
  CORDWOOD_RETURN_IF_ERROR(status());
  if (read_only()) return absl::OkStatus();
  const std::int64_t deadline = NanosAfter(os::MonotonicNanos(), budget);
  maintenance_->PrepareAhead(deadline);
  const absl::Status status = maintenance_->FlushPass(deadline);
  maintenance_->Retain(deadline);
  maintenance_->Compact(deadline);
  // Not all of it: the next call goes on.
  return absl::IsUnavailable(status) ? absl::OkStatus() : status;
}

absl::Status BrokerState::Close() {
  // Closed already; or in a forked child, where there is no thread, and where a lock may be
  // held for ever by one that the parent has.
  if (!directory_->context()->live->is_open()) return directory_->Close();
  consumers_.Close();
  // A consumer that is kept open reads nothing from here on: others have its partitions.
  groups_->ResignMembers();
  StopThread();
  maintenance_->EndCompaction();
  absl::Status status;
  if (!read_only()) {
    shares_->ReleaseAll();
    const group::GroupStore::Snapshot committed = groups_->Take();
    status = directory_->FlushAll(kCloseTimeout);
    // An acknowledgement may be on the disk before its record is (group/share.h).
    const absl::Status shared = shares_->SyncAll();
    if (status.ok() && !committed.empty()) status = groups_->WriteDurable(committed);
    status.Update(shared);
  }
  status.Update(directory_->Close());
  return status;
}

}  // namespace cordwood::internal
