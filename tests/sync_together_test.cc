// Rule 17: many files are made durable by one sync of the file system.

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "cordwood/cordwood.h"
#include "tests/catch.h"
#include "tests/support/failing_storage.h"
#include "tests/support/temp_dir.h"

namespace cordwood {
namespace {

using testing::FailingStorage;
using testing::TempDir;
using Op = FailingStorage::Op;

struct ManyPartitions {
  static constexpr int kPartitions = 100;

  TempDir dir;
  std::shared_ptr<FailingStorage> storage = FailingStorage::Make();
  Broker broker =
      Broker::Open(dir / "data", {.background_threads = false, .storage = storage}).value();
  Topic topic = broker.CreateTopic("t", {.partitions = kPartitions}).value();

  void AppendToEach() {
    for (int p = 0; p < kPartitions; ++p) topic.partition(p).Append({.value = "a"}).value();
    storage->Forget();
  }
  int Durable() {
    int durable = 0;
    for (int p = 0; p < kPartitions; ++p) {
      durable += topic.partition(p).durable_offset() == topic.partition(p).end_offset();
    }
    return durable;
  }
};

TEST_CASE("Rule 17: more than 64 dirty files are synced by one sync of the file system") {
  ManyPartitions many;
  many.AppendToEach();
  REQUIRE(many.broker.Maintain(absl::Seconds(60)).ok());
  CHECK(many.Durable() == ManyPartitions::kPartitions);
  CHECK(many.storage->Count(Op::kSyncFileSystem) == 1);
  CHECK(many.storage->Count(Op::kMapSync, ".log") == 0);
}

TEST_CASE("Rule 17: when that sync fails, every file of it is retired and synced no more") {
  ManyPartitions many;
  many.AppendToEach();
  many.storage->Fail({.op = Op::kSyncFileSystem});
  REQUIRE(many.broker.Maintain(absl::Seconds(60)).ok());
  CHECK(many.Durable() == ManyPartitions::kPartitions);
  // Each log went on in a fresh file, which was synced under its unfinished name.
  CHECK(many.storage->Count(Op::kMapSync, "/00000000000000000000.log") == 0);
  CHECK(many.storage->Count(Op::kMapSync, ".next-") >= ManyPartitions::kPartitions);
}

TEST_CASE("Rule 17: a callback of that sync may make another of the partitions durable") {
  ManyPartitions many;
  many.AppendToEach();
  // Without waiting: a lock that this very thread has would never be free.
  const auto append = [&](int partition) {
    return many.topic.partition(partition).Append(
        {.value = "b"}, {.durability = Durability::kDurable, .timeout = absl::ZeroDuration()});
  };
  std::vector<absl::Status> appended;
  REQUIRE(many.topic.partition(0)
              .OnDurable(0,
                         [&](const absl::Status& status) {
                           appended.push_back(status);
                           appended.push_back(append(0).status());
                           appended.push_back(append(ManyPartitions::kPartitions - 1).status());
                         })
              .ok());
  REQUIRE(many.broker.Maintain(absl::Seconds(60)).ok());
  CHECK(many.storage->Count(Op::kSyncFileSystem) == 1);
  CHECK(appended == std::vector<absl::Status>(3));
}

TEST_CASE("Rule 17: a few dirty files are synced one by one") {
  ManyPartitions many;
  for (int p = 0; p < 64; ++p) many.topic.partition(p).Append({.value = "a"}).value();
  many.storage->Forget();
  REQUIRE(many.broker.Maintain(absl::Seconds(60)).ok());
  CHECK(many.storage->Count(Op::kSyncFileSystem) == 0);
  CHECK(many.Durable() == ManyPartitions::kPartitions);
}

}  // namespace
}  // namespace cordwood
