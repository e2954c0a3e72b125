// The committed offsets of groups, which outlive their processes and, once they are in
// the durable image, a power cut. One folder a group: groups/<group>/
//
//   live      what the members share in memory: group/live.h
//   offsets   the durable image, written by the flush pass
//   metadata  the strings that came with commits
//   members   an empty file whose bytes are locks: who is a member
//   member-N  what the member in slot N has subscribed to
//
// All integers are little-endian; what is not named is zero.
//
// OFFSETS: a header of 4,096 bytes, then 512 bytes an entry, one for each partition of
// each topic that the group has read. An entry keeps its place for ever.
//
//   position  bytes  header
//          0      8  magic "CWOFFST1"
//          8      4  version, 1
//         12      4  bytes of an entry, 512
//         56      8  XXH3-64 of bytes 0 to 55
//   position  bytes  entry
//          0     16  topic id
//         16      4  partition
//         20      4  bytes of the topic's name
//         24    249  the topic's name
//        376      8  XXH3-64 of bytes 0 to 375
//        384     64  slot 0
//        448     64  slot 1
//   position  bytes  slot
//          0      8  sequence, from 1; after 2^64 - 1 comes 1 again
//          8      8  the committed offset: the next one to read
//         16     16  topic id
//         32      4  partition
//         56      8  XXH3-64 of bytes 0 to 55
//
//   A slot is valid if and only if its checksum holds, its sequence is not 0, its offset
//   is in [0, 2^48 - 2] and its topic id and partition are the entry's. Of two valid ones
//   the later counts, as of the start slots of segment/format.h. No valid slot: nothing
//   was committed. Why two: the one that counts is never written over, so a torn write
//   costs the commit that was being made durable and no other.
//   An entry whose own checksum does not hold is that of its newest valid slot, and
//   without one it is no entry. Why: a damaged name costs the name.
//   An entry whose topic id is not that of the topic of that name is of a topic that was
//   deleted, and counts as none.
//
// METADATA: 4,608 bytes for each entry of `offsets`, as far as any was written.
//
//   position  bytes  block
//          0      8  the committed offset that it came with
//          8      4  bytes of text, at most 4,096
//         12      4  partition
//         16     16  topic id
//         32      8  XXH3-64 of bytes 0 to 31, then the text
//         64   4096  text
//
//   It counts while its offset is the committed one.
//
// MEMBERS: locks of open file descriptions, which the kernel drops with their process.
//   byte 0       shared: there is a member; exclusive: the group is being deleted or reset
//   byte 1       exclusive: `live` is being made anew
//   byte 2       shared: there is a member of a share group (group/share.h)
//   byte 16 + N  exclusive: the member in slot N of `live` is there (rule 37)
//
// MEMBER-N: 8 bytes XXH3-64 of what follows; 4 bytes of text; then the text, lines that end
// with a line feed: the assignor's name, group_instance_id or nothing, then the names of
// topics. Written and read under the roster lock, never synced.

#ifndef CORDWOOD_GROUP_OFFSETS_H_
#define CORDWOOD_GROUP_OFFSETS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "cordwood/describe.h"
#include "cordwood/group/live.h"
#include "cordwood/log/context.h"
#include "cordwood/options.h"
#include "cordwood/os/shared_lock.h"
#include "cordwood/os/storage.h"
#include "cordwood/record.h"

namespace cordwood::log {
class Directory;
}  // namespace cordwood::log

namespace cordwood::group {

class Member;

inline constexpr std::uint32_t kOffsetsVersion = 1;
inline constexpr std::uint64_t kHeaderBytes = 4096;  // of `offsets`
inline constexpr std::size_t kTopicNameBytesMax = 249;
inline constexpr std::size_t kMetadataBytesMax = 4096;  // as Kafka's offset.metadata.max.bytes

struct OffsetsHeader {
  std::uint64_t magic = 0x31545346464f5743;  // "CWOFFST1"
  std::uint32_t version = kOffsetsVersion;
  std::uint32_t entry_bytes = 512;
  std::uint8_t reserved[40] = {};
  std::uint64_t checksum = 0;
};
static_assert(sizeof(OffsetsHeader) == 64);
static_assert(offsetof(OffsetsHeader, checksum) == 56);

struct OffsetSlot {
  std::uint64_t sequence = 0;
  Offset offset = 0;
  os::Bits128 topic_id = {};
  std::uint32_t partition = 0;
  std::uint8_t reserved[20] = {};
  std::uint64_t checksum = 0;
};
static_assert(sizeof(OffsetSlot) == 64);
static_assert(offsetof(OffsetSlot, topic_id) == 16);
static_assert(offsetof(OffsetSlot, checksum) == 56);

struct OffsetEntry {
  os::Bits128 topic_id = {};
  std::uint32_t partition = 0;
  std::uint32_t name_bytes = 0;
  char name[352] = {};
  std::uint64_t checksum = 0;
  OffsetSlot slots[2] = {};
};
static_assert(sizeof(OffsetEntry) == 512);
static_assert(offsetof(OffsetEntry, name) == 24);
static_assert(offsetof(OffsetEntry, checksum) == 376);
static_assert(offsetof(OffsetEntry, slots) == 384);

struct MetadataBlock {
  Offset offset = 0;
  std::uint32_t text_bytes = 0;
  std::uint32_t partition = 0;
  os::Bits128 topic_id = {};
  std::uint64_t checksum = 0;
  std::uint8_t reserved[24] = {};
  char text[kMetadataBytesMax] = {};
  std::uint8_t reserved_too[448] = {};
};
static_assert(sizeof(MetadataBlock) == 4608);
static_assert(offsetof(MetadataBlock, checksum) == 32);
static_assert(offsetof(MetadataBlock, text) == 64);

// Which of an entry's slots counts; -1: none.
int NewestSlot(const OffsetEntry& entry);
// The entry with the topic id and partition that it is about, by itself or by its newest
// slot; none: it is no entry.
std::optional<OffsetEntry> ReadEntry(const OffsetEntry& bytes);
// An entry of that partition, without a slot.
OffsetEntry MakeEntry(const os::Bits128& topic_id, std::string_view topic, int partition);
// Writes the slot that does not count.
void WriteSlot(OffsetEntry& entry, Offset offset);

// A topic as groups know it.
struct TopicRef {
  os::Bits128 id = {};
  std::string name = {};
  int partitions = 0;
};

// One group, as this process has it open.
//
// Thread and process safety: every operation. A commit takes no lock.
class Group {
 public:
  // What of an entry is to be made durable.
  struct Change {
    int entry = 0;
    Offset next = 0;
  };
  // What an entry is of; partition -1: it is none.
  struct Identity {
    os::Bits128 topic_id = {};
    int partition = -1;
    std::string topic = {};
  };

  // Whether to wait for a process that holds a lock, or to come back later: kUnavailable.
  enum class Wait { kForTurn, kNotLong };

  // kNotFound: there is no such group, and `create` is false.
  static absl::StatusOr<std::shared_ptr<Group>> Open(std::shared_ptr<const log::Context> context,
                                                     const std::string& name, bool create,
                                                     Wait wait);

  // The entries of a topic's partitions, by partition; kNoEntry: it has none. With `add`
  // there are none of those.
  static constexpr int kNoEntry = -1;
  absl::StatusOr<std::vector<int>> Entries(const TopicRef& topic, bool add,
                                           Wait wait = Wait::kForTurn);
  // Of one partition, by itself: who asks for each of ten thousand asks in no time.
  absl::StatusOr<int> EntryOf(const os::Bits128& topic_id, int partition);
  // Of every topic that has or had that name.
  absl::StatusOr<std::vector<int>> EntriesNamed(std::string_view topic);

  // The next offset to read. The entry is one that Entries() gave, here and below.
  std::optional<Offset> committed(int entry) const;
  // What of it survives a power cut.
  std::optional<Offset> durably_committed(int entry) const;
  // By the owner with that epoch, kAborted if it is not the owner any more; or without an
  // epoch by somebody who is no member, kFailedPrecondition if the partition has an owner.
  // kFailedPrecondition: what is committed is above `next`, and `force` is false.
  absl::Status Commit(int entry, Offset next, bool force,
                      std::optional<std::uint16_t> epoch = std::nullopt);
  // The slot of the member that reads the partition; -1: nobody does.
  int OwnerOf(int entry) const;
  // Whether a commit with that epoch could still be made.
  bool IsOwner(int entry, std::optional<std::uint16_t> epoch);
  // The text of the commit that counts, if it came with one.
  absl::StatusOr<std::string> Metadata(int entry) const;
  // Before the commit of `next` that it comes with, and under the same conditions.
  absl::Status WriteMetadata(int entry, Offset next, std::string_view text,
                             std::optional<std::uint16_t> epoch = std::nullopt);

  bool HasMember() const;
  // Of a share group (group/share.h).
  bool HasShareMember() const;
  // The slots of members, away ones too.
  std::vector<int> MemberSlots() const;
  // "Empty", "Stable", or "PreparingRebalance" while a partition is on its way to a member.
  std::string State() const;
  // Locks the byte that keeps others from deleting or resetting the group; the lock goes
  // with the file. kFailedPrecondition: it was deleted.
  absl::Status LockPresence(os::File& members, Wait wait) const;
  // The members of this process, for ResignMembers().
  void Register(const std::shared_ptr<Member>& member);
  // When the broker is closed: others take what its members have.
  void ResignMembers();

  absl::StatusOr<Identity> IdentityOf(int entry);

  // The live page, for its members (group/membership.h). Not in a read-only open.
  LiveHeader& live() const { return *live_; }
  MemberSlot& slot(int number) const { return slots_[number]; }
  LiveEntry& entry(int number) const { return words_[number]; }
  int entries() const { return EntriesKnown(); }
  int slots_used() const;
  const log::Context& context() const { return *context_; }
  // Of a file of the group, below the root.
  std::string Path(std::string_view file) const { return folder_ + "/" + std::string(file); }

  // Every entry whose commit the durable image does not have.
  std::vector<Change> Changes() const;
  // Writes and syncs the changes, whose data must be durable by now. Leaves out what has
  // been committed back, or made durable further on, since they were taken.
  // In a flush pass it waits for no process that is stopped; the next pass does it.
  absl::Status WriteDurable(std::span<const Change> changes, Wait wait);

  // The topics and partitions with an entry, each topic once.
  absl::StatusOr<std::vector<TopicRef>> Topics();
  const std::string& name() const { return name_; }
  // False once the group was deleted: open it again.
  bool is_current() const;

 private:
  class Turn;

  // Frees what dead members had, if nobody else is at it.
  void Sweep();

  Group(std::shared_ptr<const log::Context> context, const std::string& name);

  // Maps `live`; false: there is none to believe.
  absl::StatusOr<bool> MapLive();
  absl::Status MakeLive(Wait wait);
  // Takes over what the files say and the live page does not know yet.
  absl::Status Adopt(Wait wait);
  // What of the file is committed, as in LiveEntry::durable; anew with all identities.
  absl::StatusOr<std::vector<std::uint64_t>> ReadAll() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status ReadImage();
  absl::Status CheckWritable() const;
  int EntriesKnown() const;

  // mutex_ is taken after the group's lock, and held for no longer than a file is read.
  absl::Status ReadIdentities() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddIdentity(const OffsetEntry& bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Under the group's lock.
  absl::Status GrowLive(int entries);
  absl::Status AddEntries(const TopicRef& topic, std::span<const int> partitions)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<os::File*> Image();
  absl::Status WriteInPlace(std::span<const Change> changes);
  absl::Status WriteWhole(std::span<const Change> changes);

  const std::shared_ptr<const log::Context> context_;
  const std::string name_;
  const std::string folder_;  // relative to the root
  // Null, in a read-only open only: no live page to believe. Then `image_` counts.
  std::unique_ptr<os::File> live_file_;
  std::unique_ptr<os::Mapping> live_map_;
  // As many entries have blocks in the file, as far as is known.
  mutable std::atomic<int> entries_in_file_{0};
  LiveHeader* live_ = nullptr;
  MemberSlot* slots_ = nullptr;
  LiveEntry* words_ = nullptr;
  std::vector<std::uint64_t> image_;

  // Under the group's lock: `offsets`, when LiveHeader::image was that.
  std::unique_ptr<os::File> image_file_;
  std::uint32_t image_number_ = 0;

  mutable absl::Mutex mutex_;
  std::vector<Identity> identities_ ABSL_GUARDED_BY(mutex_);  // by entry
  absl::flat_hash_map<std::pair<os::Bits128, int>, int> index_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::weak_ptr<Member>> members_ ABSL_GUARDED_BY(mutex_);
};

// The groups of an open directory.
//
//   std::shared_ptr<GroupStore> groups = GroupStore::Open(context).value();
//   GroupStore::Snapshot snapshot = groups->Take();   // a flush pass: first what is
//   directory.FlushAll();                             // committed, then the data,
//   groups->WriteDurable(snapshot);                   // then the commits (rule 23)
//
// Thread and process safety: every operation.
class GroupStore {
 public:
  struct Snapshot {
    struct Of {
      std::shared_ptr<Group> group;
      std::vector<Group::Change> changes;
    };
    std::vector<Of> groups;
    bool empty() const { return groups.empty(); }
  };

  static absl::StatusOr<std::shared_ptr<GroupStore>> Open(
      std::shared_ptr<const log::Context> context);

  // kNotFound: there is no such group, and `create` is false.
  absl::StatusOr<std::shared_ptr<Group>> OpenGroup(std::string_view name, bool create,
                                                   Group::Wait wait = Group::Wait::kForTurn);

  // What is committed and not yet in the durable images, of the groups that this process
  // has used.
  Snapshot Take();
  // After the data of every partition that was published before the snapshot was taken is
  // durable. Goes on after an error and returns the first.
  absl::Status WriteDurable(const Snapshot& snapshot);
  // The members of this process leave their groups. Before the directory is closed.
  void ResignMembers();
  // Take and WriteDurable for every group in the directory: by the last who closes it, after
  // the data is durable. What processes left that were killed is in it.
  absl::Status WriteAll();

  std::vector<std::string> List() const;
  // kFailedPrecondition: it has a member, living or away.
  absl::Status Delete(std::string_view name);
  absl::StatusOr<GroupDescription> Describe(std::string_view name, log::Directory& directory);
  // As Broker::ResetOffsets.
  absl::StatusOr<std::vector<OffsetChange>> Reset(std::string_view name, const ResetTo& to,
                                                  const ResetOptions& options,
                                                  log::Directory& directory);

  // Removes what processes that died have left half made or half deleted. Only by the
  // first opener, when nobody else is there.
  absl::Status Sweep();

 private:
  explicit GroupStore(std::shared_ptr<const log::Context> context) : context_(std::move(context)) {}

  const std::shared_ptr<const log::Context> context_;
  absl::Mutex mutex_;
  absl::flat_hash_map<std::string, std::shared_ptr<Group>> groups_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cordwood::group

#endif  // CORDWOOD_GROUP_OFFSETS_H_
