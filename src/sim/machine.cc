#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "broker_state.h"
#include "cordwood/log/context.h"
#include "cordwood/status_macros.h"
#include "cordwood/testing.h"
#include "sim/disk.h"
#include "sim/find_record.h"
#include "sim/inside.h"
#include "sim/storage.h"

namespace cordwood::testing {

struct Machine::State {
  explicit State(std::uint64_t s)
      : seed(s), disk(std::make_shared<sim::Disk>(s)), storage(sim::MakeStorage(disk)) {}

  const std::uint64_t seed;
  const std::shared_ptr<sim::Disk> disk;

  absl::Mutex mutex;
  std::shared_ptr<Storage> storage ABSL_GUARDED_BY(mutex);  // of the process that runs now
  std::vector<std::weak_ptr<internal::BrokerState>> brokers ABSL_GUARDED_BY(mutex);
  std::filesystem::path directory ABSL_GUARDED_BY(mutex);  // the last that was opened

  std::vector<std::shared_ptr<internal::BrokerState>> TakeBrokers() {
    std::vector<std::shared_ptr<internal::BrokerState>> living;
    absl::MutexLock lock(&mutex);
    for (const std::weak_ptr<internal::BrokerState>& broker : brokers) {
      if (auto state = broker.lock()) living.push_back(std::move(state));
    }
    brokers.clear();
    return living;
  }

  // `end` is what happens to the disk.
  void EndProcess(void (sim::Disk::*end)()) {
    // First the handles: they would take the errors of a dead process for those of a disk.
    for (const std::shared_ptr<internal::BrokerState>& broker : TakeBrokers()) {
      broker->context().live->Kill();
    }
    ((*disk).*end)();
    absl::MutexLock lock(&mutex);
    storage = sim::MakeStorage(disk);
  }
};

Machine::Machine(std::uint64_t seed) : state_(std::make_unique<State>(seed)) {}

Machine::~Machine() { KillProcess(); }

absl::StatusOr<Broker> Machine::Open(const std::filesystem::path& directory,
                                     BrokerOptions options) {
  options.background_threads = false;
  {
    absl::MutexLock lock(&state_->mutex);
    options.storage = state_->storage;
    state_->directory = directory;
  }
  CORDWOOD_ASSIGN_OR_RETURN(Broker broker, Broker::Open(directory, options));
  absl::MutexLock lock(&state_->mutex);
  if (options.storage != state_->storage) broker.state_->context().live->Kill();
  state_->brokers.push_back(broker.state_);
  return broker;
}

void Machine::AdvanceClock(absl::Duration duration) {
  state_->disk->AdvanceClock(absl::ToInt64Nanoseconds(duration));
}

void Machine::KillProcess() { state_->EndProcess(&sim::Disk::KillProcess); }
void Machine::CutPower() { state_->EndProcess(&sim::Disk::CutPower); }

void Machine::SetFreeBytes(std::int64_t bytes) { state_->disk->SetFreeBytes(bytes); }
void Machine::FailNextSync() { state_->disk->FailNextSync(); }

absl::Status Machine::FlipBit(const TopicPartition& where, Offset offset) {
  std::shared_ptr<Storage> storage;
  std::filesystem::path directory;
  {
    absl::MutexLock lock(&state_->mutex);
    storage = state_->storage;
    directory = state_->directory;
  }
  if (directory.empty()) {
    return absl::NotFoundError(
        absl::StrCat(where.topic, "-", where.partition, ": no directory has been opened"));
  }
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::Folder> folder,
                            storage->OpenFolder(directory, {}));
  CORDWOOD_ASSIGN_OR_RETURN(const sim::RecordPlace place, sim::FindRecord(*folder, where, offset));
  const std::uint64_t bit = state_->disk->Below(place.bytes * 8);
  return state_->disk->FlipBit(directory, place.path, place.position + bit / 8,
                               static_cast<int>(bit % 8));
}

std::uint64_t Machine::seed() const { return state_->seed; }

sim::Disk& Inside::DiskOf(Machine& machine) { return *machine.state_->disk; }

}  // namespace cordwood::testing
