// What is behind a Consumer: its partitions, which of them may have news, its place in
// its group, and how it waits.
//
//   consumer_state.cc      making, closing, what is assigned
//   consumer_subscribe.cc  Subscribe, Assign, and what they set going
//   consumer_group.cc      in a Poll: what the group gives and takes
//   consumer_poll.cc       Poll: taking turns, gaps, errors
//   consumer_wait.cc       knowing what has news, sleeping, the eventfd
//   consumer_commit.cc     Commit, Seek
//
// A partition is in one of four places:
//
//   arriving the group has given it, and the next Poll tells on_assigned
//   queued   it may have news: Poll looks at it when its turn comes
//   idle     it was read to its end, and has its flag set (kArmed): who appends puts it
//            into its topic's ring, from where it is queued again
//   out      paused, or failed
//
// As long as there are few partitions, one that was read to its end stays queued until
// the consumer is about to sleep: while it polls, writers pay nothing for it.
//
// Thread safety: one thread at a time, but for Wakeup.

#ifndef CORDWOOD_CONSUMER_STATE_H_
#define CORDWOOD_CONSUMER_STATE_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <regex>
#include <set>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "broker_state.h"
#include "cordwood/consumer.h"
#include "cordwood/group/membership.h"
#include "cordwood/group/offsets.h"
#include "cordwood/log/cursor.h"
#include "cordwood/log/topic_files.h"
#include "cordwood/options.h"
#include "cordwood/os/doorbell.h"
#include "cordwood/record.h"
#include "ready_watcher.h"

namespace cordwood::internal {

struct TopicReading;

// One partition that is assigned.
struct PartitionReading {
  PartitionReading(TopicReading* t, int p, std::shared_ptr<log::Log> l, Offset from, bool verify)
      : topic(t), number(p), log(std::move(l)), cursor(log, from, verify) {
    cursor.set_tell_tombstones(true);
  }

  TopicReading* const topic;
  const int number;
  std::shared_ptr<log::Log> log;
  log::Cursor cursor;
  int entry = group::Group::kNoEntry;  // in the group's files
  std::optional<std::uint16_t> epoch;  // as its owner in the group; none: of an Assign

  bool arriving = false;
  bool queued = false;
  bool paused = false;
  bool failed = false;         // an error was found: left out until Seek or Resume
  bool check_position = true;  // it may be past the end
  bool unsaid = false;         // auto-commit owes `given`
  Offset given = 0;            // what is after the records of the last Poll
  absl::Status no_position;    // nothing is committed, and the reset is kError
  // What its word was when it was read to its end and stayed queued, else kBusy.
  std::uint64_t seen = WatchedTopic::kBusy;
  PartitionReading* next = nullptr;  // in the queue
};

// A topic of which partitions are assigned, or arrive.
struct TopicReading {
  std::shared_ptr<log::TopicFiles> files;
  std::shared_ptr<WatchedTopic> watched;
  std::uint64_t ring_next = 0;  // of the topic's ring, the first entry not looked at
  bool deleted = false;
  std::vector<std::unique_ptr<PartitionReading>> partitions;  // null: not assigned

  const std::string& name() const { return files->name(); }
  group::TopicRef ref() const { return {files->id(), files->name(), files->partitions()}; }
};

class ConsumerState {
 public:
  ConsumerState(std::shared_ptr<BrokerState> broker, const ConsumerOptions& options);
  ConsumerState(const ConsumerState&) = delete;
  ConsumerState& operator=(const ConsumerState&) = delete;
  ~ConsumerState();

  absl::Status Subscribe(std::vector<std::string> topics);
  absl::Status SubscribePattern(std::string_view pattern);
  absl::Status Assign(std::vector<TopicPartition> partitions);
  absl::Status Poll(Consumer& self, RecordBatch& batch, absl::Duration timeout,
                    const std::stop_token& stop);
  absl::StatusOr<int> ReadyFd();

  absl::Status CommitPositions(const CommitOptions& options);
  absl::Status CommitOffset(std::string_view topic, int partition, Offset next,
                            const CommitOptions& options);
  absl::Status CommitOffsets(const std::map<TopicPartition, Offset>& offsets,
                             const CommitOptions& options);

  absl::Status Seek(const TopicPartition& where, Offset offset);
  // To what position(log) says, for each of the partitions, or for all.
  template <class F>
  absl::Status SeekEach(std::span<const TopicPartition> partitions, F position);
  absl::Status SeekToBeginning(std::span<const TopicPartition> partitions);
  absl::Status SeekToEnd(std::span<const TopicPartition> partitions);
  absl::Status SeekToTime(absl::Time time, std::span<const TopicPartition> partitions);
  absl::StatusOr<Offset> Position(const TopicPartition& where) const;
  absl::StatusOr<std::optional<Offset>> Committed(const TopicPartition& where);
  absl::StatusOr<std::int64_t> Lag(const TopicPartition& where);
  absl::Status SetPaused(std::span<const TopicPartition> partitions, bool paused);
  std::vector<TopicPartition> Assignment() const;

  void Wakeup();
  absl::Status Close(Consumer& self);
  // Whether this is the process that made it.
  bool IsForked() const;

 private:
  enum class Mode { kNone, kSubscribed, kPattern, kAssigned };
  struct Error {
    absl::Status status;
    PartitionReading* partition = nullptr;
    TopicReading* deleted = nullptr;  // to be unassigned with it
  };
  struct Unopened {
    group::Owned owned;
    bool told = false;
  };
  struct Subscribed {
    os::Bits128 id = {};
    int partitions = 0;
    friend bool operator==(const Subscribed&, const Subscribed&) = default;
  };
  struct Wanted {
    PartitionReading* partition = nullptr;
    Offset next = 0;
  };

  // consumer_state.cc
  absl::Status CheckUsable() const;
  absl::Status CheckOutsideCallback(std::string_view call) const;
  absl::StatusOr<PartitionReading*> Find(const std::string& topic, int partition) const;
  template <class F>
  void ForEachPartition(F f) const;
  void Call(Consumer& self, const RebalanceCallback& callback,
            const std::vector<TopicPartition>& partitions);
  static void List(const TopicReading& topic, std::vector<TopicPartition>& to);
  void Add(std::unique_ptr<TopicReading> topic);
  void Remove(TopicReading* topic);
  void Enter(PartitionReading& partition);
  void Drop(PartitionReading& partition);
  void Close(TopicReading& topic, int partition);
  void LeaveAll();
  void Abandon();

  // consumer_subscribe.cc
  absl::Status SubscribeTo(const std::set<std::string>& topics, Mode mode,
                           group::Group::Wait wait = group::Group::Wait::kForTurn);
  void RemoveDeleted();
  absl::StatusOr<std::unique_ptr<TopicReading>> OpenTopic(const std::string& name) const;
  absl::Status OpenPartition(TopicReading& topic, int partition, OffsetReset reset);
  void Widen(TopicReading& topic);
  absl::Status OpenEntries(TopicReading& topic);
  absl::StatusOr<std::set<std::string>> MatchingTopics() const;
  absl::Status OpenGroup();
  absl::StatusOr<std::shared_ptr<group::Member>> Join(const std::set<std::string>& topics,
                                                      group::Group::Wait wait) const;

  // consumer_group.cc
  absl::Status LookForTopics(std::int64_t now_ns);
  absl::Status Rebalance(Consumer& self, std::int64_t now_ns);
  void TellLook(const absl::Status& status);
  absl::Status Rejoin(std::int64_t now_ns);
  void GiveUp(Consumer& self);
  void TakeWhatIsOurs();
  absl::Status OpenOwned(const group::Owned& owned);
  void Welcome(Consumer& self);
  absl::Status Lose(Consumer& self, absl::Status why);
  absl::Status CheckPollInterval(Consumer& self, std::int64_t now_ns);

  // consumer_poll.cc
  enum class Visit { kMore, kCaughtUp, kOut };
  absl::Status PollOnce(Consumer& self, RecordBatch& batch, BatchBuilder& builder,
                        absl::Duration timeout, const std::stop_token& stop);
  bool IsAtEnd(const PartitionReading& partition) const;
  void TakeTurns(BatchBuilder& builder);
  Visit Read(PartitionReading& partition, std::size_t quota, BatchBuilder& builder);
  bool CheckPosition(PartitionReading& partition);
  void Fail(PartitionReading& partition, absl::Status status);
  void TellDeleted(TopicReading& topic);
  absl::Status TakeError(Consumer& self);
  void TellConsumed();

  // consumer_wait.cc
  static void SetBusy(PartitionReading& partition);
  void Enqueue(PartitionReading& partition);
  PartitionReading* Dequeue();
  bool MakeIdle(PartitionReading& partition, std::uint64_t word);
  bool IsEager() const { return event_fd_ >= 0 || assigned_ > kLookAtMax; }
  void MakeAllIdle();
  void TakeNews(std::int64_t now_ns);
  void LookAtAll();
  void RefreshReadOnly(TopicReading& topic);
  void Sleep(std::int64_t until_ns, std::uint32_t heard);
  bool HasSomething() const;
  void TellReady();
  void WatchAgain();
  absl::Status Cancelled(const std::stop_token& stop);

  // consumer_commit.cc
  absl::Status Commit(std::span<const Wanted> wanted, const CommitOptions& options,
                      std::vector<TopicPartition> lost = {}) {
    return broker_->context().Counted(log::Operation::kCommit,
                                      CommitEach(wanted, options, std::move(lost)));
  }
  absl::Status CommitEach(std::span<const Wanted> wanted, const CommitOptions& options,
                          std::vector<TopicPartition> lost);
  absl::Status CommitOne(const Wanted& wanted, const CommitOptions& options);
  absl::Status MakeDurable(std::span<const Wanted> wanted);
  absl::Status CommitAfterPoll();
  void SeekTo(PartitionReading& partition, Offset offset);
  absl::StatusOr<std::vector<PartitionReading*>> FindAll(
      std::span<const TopicPartition> partitions) const;

  // Up to so many partitions are looked at in every Poll.
  static constexpr int kLookAtMax = 64;
  static constexpr std::int64_t kLookForTopicsNanos = 1'000'000'000;
  // The next Poll looks for topics, and for partitions that were added.
  bool IsToLookForTopics() const { return member_ != nullptr && next_topics_ns_ == 0; }

  const std::shared_ptr<BrokerState> broker_;
  const ConsumerOptions options_;
  const pid_t pid_;
  const bool durable_only_;

  Mode mode_ = Mode::kNone;
  bool closed_ = false;
  bool in_callback_ = false;
  std::shared_ptr<group::Group> group_;
  std::map<std::string, std::unique_ptr<TopicReading>, std::less<>> topics_;
  int assigned_ = 0;  // partitions, but for those arriving
  int arriving_ = 0;
  // The place in the group, of one that has subscribed. Shared with the watcher.
  std::shared_ptr<group::Member> member_;
  std::map<std::string, Subscribed> subscribed_;  // the topics, and what they were
  std::set<std::string> appeared_;                // of these, since it has subscribed
  std::vector<Unopened> unopened_;                // owned, and not to be read (yet)
  std::set<TopicPartition> former_;               // were owned, and are not any more
  std::set<std::string> refused_;                 // topics that cannot be opened, and told
  std::string look_error_;                        // the last one, and told
  bool is_missing_one_ = false;                   // a topic of subscribed_ was deleted
  bool rejoin_ = false;                           // after max_poll_interval
  std::int64_t next_rejoin_ns_ = 0;
  std::optional<std::regex> pattern_;
  std::int64_t next_topics_ns_ = 0;
  std::int64_t last_poll_ns_ = 0;
  // What metrics are not told of yet.
  struct {
    std::uint64_t records = 0, bytes = 0, batches = 0;
  } consumed_;

  // The queue, first in first out.
  PartitionReading* first_ = nullptr;
  PartitionReading* last_ = nullptr;
  std::size_t queued_ = 0;
  std::vector<PartitionReading*> turns_;   // of this Poll
  std::vector<PartitionReading*> unsaid_;  // what auto-commit owes
  std::deque<Error> errors_;
  std::int64_t next_look_ns_ = 0;

  std::vector<os::FutexWaiter> words_;
  std::atomic<std::uint32_t> wake_{0};  // bumped to end a sleep
  std::atomic<bool> wakeup_{false};
  std::atomic<int> event_fd_{-1};  // stays open until the end: Wakeup may be using it
  std::shared_ptr<ReadyWatcher> watcher_;
};

template <class F>
void ConsumerState::ForEachPartition(F f) const {
  for (const auto& [name, topic] : topics_) {
    for (const auto& partition : topic->partitions) {
      if (partition != nullptr && !partition->arriving) f(*partition);
    }
  }
}

}  // namespace cordwood::internal

#endif  // CORDWOOD_CONSUMER_STATE_H_
