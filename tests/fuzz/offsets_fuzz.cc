// The bytes of a group's durable image. What is read of it is what its slots say, and what is
// committed on top of it stays, and changes nothing else.
//
//   byte 0   1: the header is a good one and the input the entries behind it
//            2: all checksums hold
//            4: each entry is of the topic that is there
//   then     the file, or the entries

#include <map>
#include <optional>
#include <vector>

#include "cordwood/group/offsets.h"
#include "cordwood/log/directory.h"
#include "cordwood/os/checksum.h"
#include "tests/fuzz/support.h"

using namespace cordwood;
using namespace cordwood::fuzz;

namespace {

enum Right : std::uint8_t { kHeader = 1, kSigned = 2, kOfTopic = 4 };

const std::string kPath = std::string("groups/") + kGroup + "/offsets";

std::string ImageOf(std::uint8_t right, std::string_view input) {
  std::string bytes;
  if ((right & kHeader) != 0) bytes = Prepare().closed.at(kPath).substr(0, group::kHeaderBytes);
  bytes.append(input);
  if ((right & kOfTopic) != 0) {
    for (std::size_t at = group::kHeaderBytes; at < bytes.size();
         at += sizeof(group::OffsetEntry)) {
      auto entry = Load<group::OffsetEntry>(bytes, at);
      entry.topic_id = TopicId();
      for (group::OffsetSlot& slot : entry.slots) {
        slot.topic_id = entry.topic_id;
        slot.partition = entry.partition;
      }
      Store(entry, bytes, at);
    }
  }
  if ((right & kSigned) != 0) SignAgain(kPath, bytes);
  return bytes;
}

// An open directory, and the group in it.
struct Open {
  Open(const Machine& machine, bool read_only) {
    RecoveryReport report;
    auto opened = log::Directory::Open(machine.directory(),
                                       {.read_only = read_only,
                                        .background_threads = false,
                                        .storage = machine.storage(),
                                        .reserve_bytes = 0},
                                       {}, report);
    Require(opened.ok(), "a directory cannot be opened for what is in a group's file");
    directory = *std::move(opened);
    const auto topic = directory->OpenTopic(kTopic);
    Require(topic.ok(), "a topic cannot be opened for what is in a group's file");
    orders = {(*topic)->id(), kTopic, (*topic)->partitions()};
    store = group::GroupStore::Open(directory->context()).value();
    if (auto found = store->OpenGroup(kGroup, false); found.ok()) group = *std::move(found);
  }
  // By entry.
  std::map<int, std::optional<Offset>> Committed() const {
    std::map<int, std::optional<Offset>> committed;
    for (int i = 0; i < group->entries(); ++i) committed[i] = group->committed(i);
    return committed;
  }

  std::shared_ptr<log::Directory> directory;
  group::TopicRef orders;
  std::shared_ptr<group::GroupStore> store;
  std::shared_ptr<group::Group> group;  // null: it is damaged
};

void CheckEntries(const group::Group& group, const std::string& image) {
  for (int i = 0; i < group.entries(); ++i) {
    const std::size_t at = group::kHeaderBytes + static_cast<std::size_t>(i) * 512;
    std::optional<Offset> offset;
    if (at + sizeof(group::OffsetEntry) <= image.size()) {
      const auto entry = group::ReadEntry(Load<group::OffsetEntry>(image, at));
      const int newest = entry ? group::NewestSlot(*entry) : -1;
      if (newest >= 0) offset = entry->slots[newest].offset;
    }
    Require(group.committed(i) == offset, "another offset is committed than the image says");
  }
}

// Commits one further, or back to the start where there is none further.
Offset CommitNext(const Open& open, int entry) {
  const Offset before = open.group->committed(entry).value_or(0);
  const Offset next = before < group::kCommitMax ? before + 1 : 0;
  Require(open.group->Commit(entry, next, true).ok(), "an offset cannot be committed");
  Require(open.group->committed(entry) == next, "what was committed is something else");
  return next;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  const auto right = input.Take<std::uint8_t>();
  Tree tree = Prepare().closed;
  const std::string image = ImageOf(right, input.rest());
  tree[kPath] = image;
  const Machine machine(2);
  machine.Put(tree);
  {
    const Open open(machine, true);
    if (open.group != nullptr) CheckEntries(*open.group, image);
    open.store->Describe(kGroup, *open.directory).IgnoreError();
  }
  std::map<int, std::optional<Offset>> committed;
  {
    const Open open(machine, false);
    if (open.group == nullptr) return 0;
    CheckEntries(*open.group, image);
    for (int i = 0; i < open.group->entries(); ++i) {
      open.group->IdentityOf(i).IgnoreError();
      open.group->Metadata(i).IgnoreError();
    }
    Require(open.group->Topics().ok(), "the topics of a group cannot be told");
    const auto entries = open.group->Entries(open.orders, true);
    Require(entries.ok(), "no entries can be added to a group");
    committed = open.Committed();
    for (const int entry : *entries) committed[entry] = CommitNext(open, entry);
    Require(open.Committed() == committed, "a commit has changed another one");
    Require(open.group->WriteDurable(open.group->Changes(), group::Group::Wait::kForTurn).ok(),
            "commits cannot be made durable");
    for (const int entry : *entries) {
      Require(open.group->durably_committed(entry) == committed[entry],
              "a commit that was made durable is not");
    }
  }
  // As after a power cut: the live page is of another boot, and the image alone says it.
  std::error_code ignored;
  std::filesystem::remove(machine.directory() / "groups" / kGroup / "live", ignored);
  const Open open(machine, false);
  Require(open.group != nullptr, "a group that was open cannot be opened again");
  Require(open.Committed() == committed, "a durable commit is gone, or another one has changed");
  return 0;
}
