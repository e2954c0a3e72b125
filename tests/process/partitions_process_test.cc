// Ten thousand partitions under the limits that a process has by default.

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cordwood/cordwood.h"
#include "tests/catch.h"
#include "tests/support/child.h"
#include "tests/support/environment.h"
#include "tests/support/soak.h"
#include "tests/support/temp_dir.h"

namespace cordwood::partitions_process_test {
namespace {

using testing::Holds;

constexpr int kPartitions = 10'000;

struct Report {
  Holds most;
  std::int64_t read = 0, in_a_poll = 0;
  char wrong[300] = {};
};

std::string ValueOf(int partition) { return absl::StrCat("of ", partition); }

// Creates, appends one to each, reads each, and all with one consumer; closes.
absl::Status UseAll(const std::filesystem::path& path, Report& report) {
  absl::StatusOr<Broker> broker = Broker::Open(path);
  if (!broker.ok()) return broker.status();
  absl::StatusOr<Topic> topic = broker->CreateTopic("events", {.partitions = kPartitions});
  if (!topic.ok()) return topic.status();
  const auto look = [&] {
    const Holds now = Holds::Of(getpid(), path);
    report.most.maps = std::max(report.most.maps, now.maps);
    report.most.descriptors = std::max(report.most.descriptors, now.descriptors);
  };
  std::vector<TopicPartition> all;
  for (int i = 0; i < kPartitions; ++i) {
    all.push_back({"events", i});
    const auto at = topic->partition(i).Append({.value = ValueOf(i)});
    if (!at.ok()) return at.status();
    if (i % 1000 == 0) look();
  }
  for (int i = 0; i < kPartitions; ++i) {
    auto reader = topic->partition(i).Read(0);
    if (!reader.ok()) return reader.status();
    for (const RecordView& record : *reader) report.read += record.value() == ValueOf(i);
    if (!reader->status().ok()) return reader->status();
  }
  look();
  absl::StatusOr<Consumer> consumer = broker->NewConsumer();
  if (!consumer.ok()) return consumer.status();
  if (absl::Status status = consumer->Assign(all); !status.ok()) return status;
  while (report.in_a_poll < kPartitions) {
    const auto batch = consumer->Poll(absl::Seconds(5));
    if (!batch.ok()) return batch.status();
    if (batch->empty()) break;
    for (const RecordView& record : *batch) {
      report.in_a_poll += record.value() == ValueOf(record.partition());
    }
  }
  look();
  return broker->Close();
}

}  // namespace

TEST_CASE("Ten thousand partitions in one broker hit no limit of a process") {
  // A disk has to make thirty thousand files durable.
  const testing::TempDir dir(testing::FolderInMemory());
  testing::Child child([&](testing::Child& parent) {
    const rlimit usual = {1024, 1024};
    Report report;
    if (setrlimit(RLIMIT_NOFILE, &usual) != 0) return;
    const std::string wrong = UseAll(dir.path() / "data", report).ToString();
    std::copy_n(wrong.c_str(), std::min(wrong.size(), sizeof report.wrong - 1), report.wrong);
    parent.Send(report);
  });
  const auto report = child.Receive<Report>();
  std::printf("Partitions: at most %lld descriptors and %lld maps\n",
              static_cast<long long>(report.most.descriptors),
              static_cast<long long>(report.most.maps));
  CHECK(std::string_view(report.wrong) == "OK");
  CHECK(report.read == kPartitions);
  CHECK(report.in_a_poll == kPartitions);
  // None for each partition, and far from the system's 65,530.
  CHECK(report.most.descriptors < 100);
  CHECK(report.most.maps < 4 * kPartitions);
}

}  // namespace cordwood::partitions_process_test
