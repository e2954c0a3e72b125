// T13 of the reliability plan: a directory in which somebody has put something else in the place of
// each file and folder, or takes files away and cuts them while they are opened. It may cost
// records, or be refused in words; it never leads out of the directory, hangs, or crashes.

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "cordwood/broker.h"
#include "cordwood/consumer.h"
#include "tests/catch.h"
#include "tests/support/environment.h"
#include "tests/support/files.h"
#include "tests/support/folder_decorator.h"
#include "tests/support/folder_picture.h"
#include "tests/support/temp_dir.h"

namespace cordwood::hostile_directory_test {
namespace {

namespace fs = std::filesystem;
using testing::FolderPicture;
using testing::ReadAll;
using testing::TellingStorage;
using testing::TempDir;
using testing::WriteAll;

constexpr int kRecords = 40;

BrokerOptions Options(bool read_only, std::shared_ptr<Storage> storage = nullptr) {
  return {.read_only = read_only,
          .background_threads = false,
          .open_timeout = absl::Seconds(5),
          .storage = std::move(storage),
          .reserve_bytes = 0};
}

// Two topics of several segments, and a group.
FolderPicture MakeWhole(const fs::path& path) {
  {
    const Broker broker = Broker::Open(path, Options(false)).value();
    for (const char* name : {"good", "hit"}) {
      const Partition partition =
          broker.CreateTopic(name, {.segment_bytes = 4096}).value().partition(0);
      for (int i = 0; i < kRecords; ++i) {
        REQUIRE(partition.Append({.value = std::string(200, 'v')}).ok());
      }
      REQUIRE(partition.Trim(2).ok());
    }
    Consumer consumer = broker.NewConsumer({.group = "g"}).value();
    REQUIRE(consumer.Assign({{"hit", 0}}).ok());
    REQUIRE(consumer.Commit({{{"hit", 0}, 7}}, {.durability = Durability::kDurable}).ok());
  }
  return FolderPicture::Of(path);
}

int CountOf(const Partition& partition, bool& all_right) {
  absl::StatusOr<PartitionReader> reader = partition.Read(partition.start_offset());
  if (!reader.ok()) return 0;
  int count = 0;
  for (const RecordView& record : *reader) {
    const std::string_view value = record.value().value_or("");
    all_right = all_right && (value == std::string(200, 'v') || value == "more");
    ++count;
  }
  return count;
}

// Does with the directory what one does with a directory. Whatever it answers, it says it in words,
// and hands out nothing but what was written. How many records of "good" are there.
int Use(const fs::path& path, const BrokerOptions& options) {
  bool in_words = true, all_right = true;
  const auto note = [&](const absl::Status& status) {
    in_words = in_words && (status.ok() || status.message().size() > 10);
  };
  const absl::StatusOr<Broker> broker = Broker::Open(path, options);
  note(broker.status());
  int good = 0;
  if (broker.ok()) {
    for (const char* name : {"good", "hit"}) {
      const absl::StatusOr<Topic> topic = broker->OpenTopic(name);
      note(topic.status());
      if (!topic.ok()) continue;
      const int count = CountOf(topic->partition(0), all_right);
      if (std::string_view(name) == "good") good = count;
      note(topic->partition(0).OffsetForTime(absl::Now()).status());
      note(topic->partition(0).Append({.value = "more"}, {.timeout = absl::Seconds(5)}).status());
      note(topic->partition(0).Flush());
      note(broker->DescribeTopic(name).status());
    }
    note(broker->DescribeGroup("g").status());
    absl::StatusOr<Consumer> consumer = broker->NewConsumer({.group = "g"});
    note(consumer.status());
    if (consumer.ok()) {
      note(consumer->Assign({{"hit", 0}}));
      note(consumer->committed({"hit", 0}).status());
      note(consumer->Commit({{{"hit", 0}, 8}}));
    }
    note(broker->Maintain(absl::Seconds(1)));
    note(broker->Close());
  }
  CHECK(in_words);
  CHECK(all_right);
  return good;
}

// What it puts there leads to, or is, a file outside.
bool Replace(const fs::path& target, const fs::path& outside, std::string_view with) {
  const bool is_folder = fs::is_directory(target);
  const std::string copy = (outside / "copy").string();
  fs::remove_all(copy);
  fs::copy(target, copy, fs::copy_options::recursive);
  fs::remove_all(target);
  if (with == "nothing") return true;
  if (with == "a link to a copy") return symlink(copy.c_str(), target.c_str()) == 0;
  if (with == "a link to nowhere") return symlink("/nowhere/at/all", target.c_str()) == 0;
  if (with == "a link to itself") return symlink(target.filename().c_str(), target.c_str()) == 0;
  if (with == "a second name") return !is_folder && link(copy.c_str(), target.c_str()) == 0;
  if (with == "a FIFO") return mkfifo(target.c_str(), 0600) == 0;
  if (with == "a device") return mknod(target.c_str(), S_IFCHR | 0600, makedev(1, 5)) == 0;
  if (with == "an empty file") return WriteAll(target, ""), true;
  if (with == "a short file") {
    if (!is_folder) WriteAll(target, ReadAll(copy).substr(0, 100));
    return !is_folder;
  }
  if (with == "a long file") return WriteAll(target, std::string(1 << 20, 'x')), true;
  return with == "a folder" && fs::create_directory(target);
}

TEST_CASE("Hostile: whatever is in the place of a file or folder, nothing leads out of there") {
  const auto with = GENERATE(as<std::string>{}, "nothing", "a link to a copy", "a link to nowhere",
                             "a link to itself", "a second name", "a FIFO", "a device",
                             "an empty file", "a short file", "a long file", "a folder");
  const TempDir dir(testing::FolderInMemory());
  const fs::path path = dir / "data", outside = dir / "outside";
  fs::create_directory(outside);
  const FolderPicture whole = MakeWhole(path);
  std::vector<std::string> names(whole.folders.begin(), whole.folders.end());
  for (const auto& [name, bytes] : whole.files) names.push_back(name);
  for (const std::string& name : names) {
    CAPTURE(with, name);
    whole.WriteTo(path);
    if (!Replace(path / name, outside, with)) continue;  // it is none of the kind, or not allowed
    const FolderPicture before = FolderPicture::Of(outside);
    Use(path, Options(/*read_only=*/true));
    const int good = Use(path, Options(/*read_only=*/false));
    CHECK((FolderPicture::Of(outside) == before));
    // What is not about the other topic leaves it alone.
    const bool is_hit_alone = name.find("topics/hit") == 0 || name.find("groups/") == 0;
    if (is_hit_alone) CHECK(good >= kRecords - 2);
  }
}

TEST_CASE("Hostile: files that vanish, shrink or become links just before they are opened") {
  const auto how = GENERATE(as<std::string>{}, "nothing", "a link to a copy", "an empty file",
                            "a short file", "a folder");
  const TempDir dir(testing::FolderInMemory());
  const fs::path path = dir / "data", outside = dir / "outside";
  fs::create_directory(outside);
  const FolderPicture whole = MakeWhole(path);
  bool was_hit = true;
  for (int nth = 1; was_hit; ++nth) {
    was_hit = false;
    whole.WriteTo(path);
    const auto storage = std::make_shared<TellingStorage>();
    int opened = 0;
    std::string hit;
    storage->before_open = [&](std::string_view name) {
      if (++opened != nth) return;
      was_hit = true;
      hit = name;
      if (fs::is_regular_file(path / name)) Replace(path / name, outside, how);
    };
    CAPTURE(how, nth);
    Use(path, Options(/*read_only=*/nth % 2 == 0, storage));
    INFO(hit);
    // Whatever that was, what is there now can be opened again, or says why not.
    Use(path, Options(/*read_only=*/false));
  }
}

}  // namespace
}  // namespace cordwood::hostile_directory_test
