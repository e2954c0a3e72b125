// A handle of librdkafka with an owner, and its errors as Statuses.
//
// Thread safety: as librdkafka's: any thread, but that Poll() calls the callbacks on its own. The
// ClusterOptions are copied.

#ifndef CORDWOOD_KAFKA_CLIENT_H_
#define CORDWOOD_KAFKA_CLIENT_H_

#include <librdkafka/rdkafka.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "cordwood/kafka/cluster.h"

namespace cordwood::kafka::internal {

inline absl::string_view ToAbsl(std::string_view s) { return {s.data(), s.size()}; }

// One deleter for all that librdkafka gives out.
struct Destroy {
  void operator()(rd_kafka_conf_t* p) const { rd_kafka_conf_destroy(p); }
  void operator()(rd_kafka_topic_t* p) const { rd_kafka_topic_destroy(p); }
  void operator()(rd_kafka_queue_t* p) const { rd_kafka_queue_destroy(p); }
  void operator()(rd_kafka_message_t* p) const { rd_kafka_message_destroy(p); }
  void operator()(rd_kafka_error_t* p) const { rd_kafka_error_destroy(p); }
  void operator()(rd_kafka_event_t* p) const { rd_kafka_event_destroy(p); }
  void operator()(rd_kafka_NewTopic_t* p) const { rd_kafka_NewTopic_destroy(p); }
  void operator()(rd_kafka_ConfigResource_t* p) const { rd_kafka_ConfigResource_destroy(p); }
  void operator()(rd_kafka_AdminOptions_t* p) const { rd_kafka_AdminOptions_destroy(p); }
  void operator()(const rd_kafka_metadata_t* p) const { rd_kafka_metadata_destroy(p); }
};
template <class T>
using Owned = std::unique_ptr<T, Destroy>;

// "what: librdkafka's words", under the code that fits.
absl::Status StatusOf(rd_kafka_resp_err_t error, std::string_view what);
absl::Status StatusOf(const rd_kafka_error_t& error, std::string_view what);

int ToMillis(absl::Duration duration);

// Both are called inside Poll, and what else of librdkafka serves its queue.
struct Callbacks {
  std::function<void(const rd_kafka_message_t&)> on_delivery = {};
  std::function<void(const std::string&)> on_error = {};  // it goes on by itself after each
};

class Client {
 public:
  using Properties = std::map<std::string, std::string>;

  // `ours` is what the bridges rest on. kInvalidArgument: a property that is one of those, or that
  // librdkafka does not know or like.
  static absl::StatusOr<std::unique_ptr<Client>> Open(rd_kafka_type_t type,
                                                      const ClusterOptions& cluster,
                                                      const Properties& ours,
                                                      Callbacks callbacks = {});
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  // Does not wait for messages; nothing that they point at is in use afterwards.
  ~Client();

  rd_kafka_t* get() const { return handle_; }
  // Delivery reports and errors, for so long at most.
  void Poll(absl::Duration timeout) const { rd_kafka_poll(handle_, ToMillis(timeout)); }
  absl::StatusOr<Owned<rd_kafka_topic_t>> OpenTopic(std::string_view name) const;

  // Questions. kCancelled: it was stopped, which is looked at several times a second.
  //
  // Waits for the cluster to say its id, which it does once and for all.
  absl::StatusOr<std::string> ClusterId(absl::Duration timeout, std::stop_token stop = {}) const;
  // By name, and how many partitions each has. Empty `topic`: all that there are. kNotFound: there
  // is no such topic.
  absl::StatusOr<std::map<std::string, int>> CountPartitions(std::string_view topic,
                                                             absl::Duration timeout,
                                                             std::stop_token stop = {}) const;
  struct Ends {
    std::int64_t low = 0, high = 0;
  };
  // With isolation.level=read_uncommitted in `ours`: with transactions that are open.
  absl::StatusOr<Ends> EndsOf(std::string_view topic, int partition, absl::Duration timeout,
                              std::stop_token stop = {}) const;

 private:
  explicit Client(const ClusterOptions& cluster) : cluster_(cluster) {}
  static Client& Of(void* opaque) { return *static_cast<Client*>(opaque); }
  static void OnLog(const rd_kafka_t* handle, int level, const char* facility, const char* text);
  static void OnError(rd_kafka_t* handle, int code, const char* reason, void* opaque);
  // Asks until there is an answer, an error other than that there was none, or the time is over.
  absl::Status Ask(std::string_view what, absl::Duration timeout, std::stop_token stop,
                   absl::FunctionRef<rd_kafka_resp_err_t(int millis)> ask) const;
  // As StatusOf, with what librdkafka told of meanwhile: why nobody answers.
  absl::Status Explained(rd_kafka_resp_err_t error, std::string_view what) const;

  const ClusterOptions cluster_;
  Callbacks callbacks_ = {};
  rd_kafka_t* handle_ = nullptr;
  mutable absl::Mutex mutex_;
  std::string last_error_ ABSL_GUARDED_BY(mutex_);
};

// What of `text` is a value of a property that is kept secret is hidden.
std::string WithoutSecrets(std::string text, const Client::Properties& properties);

}  // namespace cordwood::kafka::internal

#endif  // CORDWOOD_KAFKA_CLIENT_H_
