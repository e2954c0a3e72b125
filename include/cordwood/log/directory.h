// A Directory is one open of a cordwood directory: who may be in it, what the first one
// in has to repair, what the last one out leaves behind, and the topics of it.
//
//   RecoveryReport report;
//   auto directory = Directory::Open("/var/lib/app/log", options, {}, report).value();
//   auto orders = directory->OpenOrCreateTopic("orders", {.partitions = 3}).value();
//   directory->FlushAll(absl::InfiniteDuration());
//   directory->Close();
//
// Bytes of the file `locks` say who is there; a lock is gone when its process is:
//   0  held exclusively while a directory is opened or closed
//   1  presence: shared by every read-write open, or exclusive by one that is alone
//   2  held exclusively while a topic gets its name or loses it
// Read-only opens take none of them.
//
// Thread safety: every operation. A process that was forked may only destroy it.

#ifndef CORDWOOD_LOG_DIRECTORY_H_
#define CORDWOOD_LOG_DIRECTORY_H_

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "cordwood/describe.h"
#include "cordwood/log/context.h"
#include "cordwood/log/topic_files.h"
#include "cordwood/options.h"
#include "cordwood/os/storage.h"

namespace cordwood::log {

// What lies above this layer and has its part in opening and closing. Both get a Context
// that is open, and run when nobody else is in the directory.
struct DirectoryHooks {
  using Hook = std::function<absl::Status(const std::shared_ptr<const Context>&)>;
  Hook first_open = {};  // an error goes into the recovery report
  Hook last_close = {};  // after all records are durable; with an error no marker is left
  std::shared_ptr<const Needs> needs = {};  // for Context
};

class Directory {
 public:
  static constexpr std::uint64_t kNamesByte = 2;
  // So long who changes topics waits for another who does, and for writers.
  static constexpr absl::Duration kNamesTimeout = absl::Seconds(5);

  // kNotFound: there is none, or it is not one of ours, and it may not be made;
  // kFailedPrecondition: the path is a file, the folder holds something else, the format
  // is newer, the file system is shared between hosts, or it is open elsewhere as
  // exclusive (or at all, if asked for as exclusive); kPermissionDenied; kUnavailable
  // after open_timeout. `report` says what the first opener found.
  static absl::StatusOr<std::shared_ptr<Directory>> Open(const std::filesystem::path& path,
                                                         const BrokerOptions& options,
                                                         DirectoryHooks hooks,
                                                         RecoveryReport& report);
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  ~Directory();

  // Flushes, wakes who waits in this process, and leaves. The last one out marks the
  // directory as clean if every record of every partition is durable. Bounded: what it
  // cannot get in a few seconds, because another process is stopped, it does without.
  // OK, or why something may not be durable. The second call does nothing.
  absl::Status Close();

  // ---- Topics. Those that other processes make are found when they are asked for.
  // kNotFound: no such topic; kDataLoss: its files are damaged, in words.
  absl::StatusOr<std::shared_ptr<TopicFiles>> OpenTopic(std::string_view name);
  // kAlreadyExists.
  absl::StatusOr<std::shared_ptr<TopicFiles>> CreateTopic(std::string_view name,
                                                          const TopicConfig& config);
  // What exists is opened as it is; kFailedPrecondition if its partition count or its
  // partitioner is another.
  absl::StatusOr<std::shared_ptr<TopicFiles>> OpenOrCreateTopic(std::string_view name,
                                                                const TopicConfig& config);
  absl::Status DeleteTopic(std::string_view name);
  // Changes these properties, and no others, for every process that has the topic open:
  // each notices at its next look at the config, or in its next maintenance. OK: survives a
  // power cut. kNotFound; kInvalidArgument as AlteredConfig(); kUnavailable: another process
  // is changing topics and does not get on. An error that says so may come after the change.
  absl::Status AlterTopic(std::string_view name,
                          const std::map<std::string, std::string>& properties);
  // Makes them `count` in all, for every process that has the topic open, and rings it. OK:
  // they survive a power cut. kInvalidArgument: not more than there are, or more than there
  // can be; kFailedPrecondition: the topic is compacted; else as AlterTopic().
  absl::Status CreatePartitions(std::string_view name, int count);
  std::vector<std::string> TopicNames();
  // Those that this process has open.
  std::vector<std::shared_ptr<TopicFiles>> Topics();
  // Opens those that other processes have made, too. Passes over what is damaged.
  absl::StatusOr<std::vector<std::shared_ptr<TopicFiles>>> AllTopics();

  // ---- Work on all partitions of all topics, those of other processes included.
  // Makes durable what was published before the call. Failed partitions and deleted
  // topics are passed over; goes on after an error and returns the first.
  absl::Status FlushAll(absl::Duration timeout);
  // The same without waiting for a lock, until the deadline, which is of the monotonic
  // clock. OK only if everything that was published before the call is durable;
  // kUnavailable: another process is at it, or the time was over, and the next call goes
  // on there.
  absl::Status TryFlushAll(std::int64_t deadline_ns);
  // Notices what was altered elsewhere, and makes room ahead of the writers of this process. True
  // if one has appended since the last call. One thread at a time.
  bool PrepareAheadAll(std::int64_t deadline_ns);
  void RunCallbacks();
  // Gives up what the topics' retention says, those of other processes included, until the
  // deadline; the next call goes on there. Waits for nobody.
  void RetainAll(std::int64_t deadline_ns);

  const std::shared_ptr<const Context>& context() const { return context_; }
  bool read_only() const { return context_->read_only(); }

 private:
  class Opening;
  friend class Opening;

  Directory(std::shared_ptr<const Context> context, DirectoryHooks hooks);

  using TopicMap = std::map<std::string, std::shared_ptr<TopicFiles>, std::less<>>;

  // `gone` becomes what was in the cache and is deleted.
  absl::StatusOr<std::shared_ptr<TopicFiles>> OpenTopicLocked(const std::string& name,
                                                              std::shared_ptr<TopicFiles>& gone)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::shared_ptr<TopicFiles>> LoadTopic(const std::string& name) const;
  absl::StatusOr<std::shared_ptr<TopicFiles>> LoadTopic(const std::string& name,
                                                        TopicIdentity identity) const;
  absl::Status NoSuchTopic(std::string_view name) const;

  absl::Status BuildTopic(const std::string& folder, const std::string& name,
                          const TopicIdentity& identity) const;
  absl::StatusOr<std::unique_ptr<os::File>> LockNames(absl::Duration timeout) const;
  void FinishDeletion(const std::string& name) const;
  absl::Status MarkDeleted(TopicFiles& topic) const;
  absl::StatusOr<std::vector<Watermarks>> BuildPartitions(const std::string& folder,
                                                          const std::string& name,
                                                          const TopicIdentity& identity,
                                                          int first) const;
  static absl::Status WriteConfig(os::Folder& root, const std::string& name,
                                  const TopicIdentity& identity, const ControlFile& control);
  absl::Status ReplaceConfig(const TopicFiles& topic, const TopicConfig& config) const;
  absl::StatusOr<TopicConfig> SettledConfig(const TopicFiles& topic) const;
  void FinishChange(const TopicFiles& topic) const;
  absl::Status WaitForRemovers(const std::string& name, absl::Duration timeout) const;
  absl::StatusOr<bool> IsMarkedDeleted(const std::string& name) const;
  // Whoever gave the topic its name may have died before that was durable.
  static absl::Status EnsureNamed(os::Folder& root, const ControlFile& control);
  // Gives the folder a name that is nobody's, then removes it.
  static absl::Status RemoveTopicFolder(os::Folder& root, const std::string& name,
                                        const std::string& hex_id);

  void WakeAndCancel();
  bool WaitForOwnLocks(std::int64_t deadline_ns);
  absl::Status Leave();
  absl::Status LeaveAsLast();
  absl::Status MarkClean();

  const std::shared_ptr<const Context> context_;
  const DirectoryHooks hooks_;

  std::atomic<bool> closing_{false};
  // Touched by the opener, then by whoever has set closing_.
  std::unique_ptr<os::LockKeeper> presence_;

  absl::Mutex mutex_;
  TopicMap topics_ ABSL_GUARDED_BY(mutex_);
  // What the first opener could not read or repair, and why.
  std::map<std::string, absl::Status, std::less<>> damaged_ ABSL_GUARDED_BY(mutex_);

  // Where TryFlushAll goes on: with its time over, the last topics have their turn too.
  std::atomic<std::size_t> flush_turn_{0};
  std::atomic<std::size_t> retain_turn_{0};
  std::atomic<int> retain_partition_{0};
};

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_DIRECTORY_H_
