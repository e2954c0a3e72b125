#include "broker_state.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "cordwood/os/clock.h"
#include "cordwood/status_macros.h"

namespace cordwood::internal {
namespace {

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
// How long Close waits for what other processes hold, and how long the thread sleeps at most
// before it looks whether somebody has begun to append.
constexpr absl::Duration kCloseTimeout = absl::Seconds(5);
constexpr absl::Duration kLookInterval = absl::Milliseconds(100);

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

bool Maintenance::PrepareAhead(std::int64_t deadline_ns) {
  return directory_->PrepareAheadAll(deadline_ns);
}

void Maintenance::Run(absl::Duration flush_interval) {
  const absl::Duration interval = std::max(flush_interval, absl::Milliseconds(1));
  // Ahead of a busy writer more often: it goes through what was made ready in milliseconds.
  const absl::Duration step =
      std::clamp(interval / 20, absl::Milliseconds(1), absl::Milliseconds(50));
  std::int64_t next_flush = NanosAfter(os::MonotonicNanos(), interval);
  bool busy = false;
  for (;;) {
    const absl::Duration until_flush = absl::Nanoseconds(next_flush - os::MonotonicNanos());
    {
      absl::MutexLock lock(&mutex_);
      mutex_.AwaitWithTimeout(absl::Condition(&stop_),
                              std::min(until_flush, busy ? step : kLookInterval));
      if (stop_) return;
    }
    if (os::MonotonicNanos() >= next_flush) {
      // Whoever asks for durability hears of errors; what was not done is done next time.
      FlushPass(kNever).IgnoreError();
      next_flush = NanosAfter(os::MonotonicNanos(), interval);
    }
    busy = PrepareAhead(kNever);
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
  log::DirectoryHooks hooks;
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
      maintenance_(std::make_shared<Maintenance>(directory_, groups_, shares_)) {}

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

absl::Status BrokerState::Maintain(absl::Duration budget) {
  CORDWOOD_RETURN_IF_ERROR(status());
  if (read_only()) return absl::OkStatus();
  const std::int64_t deadline = NanosAfter(os::MonotonicNanos(), budget);
  maintenance_->PrepareAhead(deadline);
  const absl::Status status = maintenance_->FlushPass(deadline);
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
