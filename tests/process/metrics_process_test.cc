// What several processes count together, and what one leaves behind that is killed.

#include <cstdint>
#include <filesystem>
#include <string>

#include "cordwood/cordwood.h"
#include "tests/catch.h"
#include "tests/support/broker_fixture.h"
#include "tests/support/child.h"
#include "tests/support/temp_dir.h"

namespace cordwood {
namespace {

namespace fs = std::filesystem;
using testing::Child;
using testing::OpenQuiet;
using testing::TempDir;

constexpr int kErrors = 100'000;

// Each appends a batch, reads a record, and makes so many errors, at the same time as the others.
void Work(const fs::path& data) {
  const Broker broker = OpenQuiet(data);
  const Partition log = broker.OpenOrCreateTopic("t").value().partition(0);
  const Record batch[2] = {{.value = "a"}, {.value = "b"}};
  log.AppendBatch(batch).value();
  Consumer consumer = broker.NewConsumer({.max_poll_records = 1}).value();
  consumer.Assign({{"t", 0}}).IgnoreError();
  consumer.Poll(absl::Seconds(10)).value();
  consumer.Close().IgnoreError();
  for (int i = 0; i < kErrors; ++i) {
    log.Append({.value = "v"}, {.expected_offset = 1'000'000}).IgnoreError();
  }
}

TEST_CASE("Metrics: what processes count adds up, and a killed one's is not lost") {
  TempDir dir;
  const fs::path data = dir / "data";
  const auto work = [&](Child& parent) {
    parent.Wait();
    Work(data);
    parent.Tell(1);
  };
  Child one(work), two(work);
  const Broker broker = OpenQuiet(data);
  one.Tell(1);
  two.Tell(1);
  REQUIRE(one.Wait() == 1);
  REQUIRE(two.Wait() == 1);
  one.Kill();
  const MetricsSnapshot now = broker.Metrics().value();
  CHECK(now.counts->is_shared);
  CHECK(now.counts->consumed_records == 2);
  CHECK(now.counts->consumed_batches == 2);
  REQUIRE(now.counts->errors.size() == 1);
  CHECK(now.counts->errors[0].operation == "append");
  CHECK(now.counts->errors[0].kind == "ABORTED");
  CHECK(now.counts->errors[0].count == 2 * kErrors);
  REQUIRE(now.partitions.size() == 1);
  CHECK(now.partitions[0].end == 4);
  CHECK(now.partitions[0].batches == 2);
  CHECK(now.partitions[0].batch_records == 4);
}

TEST_CASE("Metrics: a child of a fork may count nothing, and does no harm") {
  TempDir dir;
  const Broker broker = OpenQuiet(dir / "data");
  const Partition log = broker.CreateTopic("t").value().partition(0);
  Child child([&](Child& parent) {
    const bool failed = !log.Append({.value = "v"}).ok() && !broker.Metrics().ok();
    parent.Tell(failed ? 1 : 2);
  });
  CHECK(child.Wait() == 1);
  CHECK(log.Append({.value = "v"}).ok());
  CHECK(broker.Metrics()->partitions.at(0).end == 1);
}

}  // namespace
}  // namespace cordwood
