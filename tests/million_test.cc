// A million records of 100 bytes: every one comes back equal, forward, backward and by time,
// in the open that wrote them and in the next. After a kill: process/writers_process_test.

#include "tests/support/million.h"

#include <vector>

#include "cordwood/cordwood.h"
#include "tests/catch.h"
#include "tests/support/temp_dir.h"

namespace cordwood::million_test {

using testing::kMillion;

TEST_CASE("A million records: every one is read back equal, before and after a restart") {
  testing::TempDir dir;
  const TopicConfig config = {.segment_bytes = 16 << 20};
  {
    const Broker broker = Broker::Open(dir.path() / "log").value();
    const Partition partition = broker.CreateTopic("million", config).value().partition(0);
    // One by one, and from the middle on in batches.
    for (Offset i = 0; i < kMillion / 2; ++i) {
      REQUIRE(testing::AppendHundred(partition, i).value_or(-1) == i);
    }
    for (Offset i = kMillion / 2; i < kMillion; i += 100) {
      std::vector<testing::Hundred> values;
      std::vector<Record> batch;
      for (Offset n = i; n < i + 100; ++n) values.emplace_back(n);
      for (Offset n = i; n < i + 100; ++n) {
        batch.push_back({.value = values[static_cast<std::size_t>(n - i)].view(),
                         .timestamp = testing::TimeOfRecord(n)});
      }
      REQUIRE(partition.AppendBatch(batch).value_or(-1) == i);
    }
    const absl::Status status = testing::CheckHundreds(partition, kMillion);
    CAPTURE(status);
    CHECK(status.ok());
    REQUIRE(broker.Close().ok());
  }
  const Broker broker = Broker::Open(dir.path() / "log").value();
  CHECK(broker.recovery_report().clean);
  const absl::Status status =
      testing::CheckHundreds(broker.OpenTopic("million").value().partition(0), kMillion);
  CAPTURE(status);
  CHECK(status.ok());
}

}  // namespace cordwood::million_test
