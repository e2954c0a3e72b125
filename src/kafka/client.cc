#include "kafka/client.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "cordwood/status_macros.h"

namespace cordwood::kafka::internal {
namespace {

// How long nobody looks at a stop token, at first.
constexpr absl::Duration kLook = absl::Milliseconds(250);

// What exactly-once rests on, with the other names that librdkafka has for it; that no topic is
// made by asking for it; and that the log reaches on_log.
constexpr std::string_view kReserved[] = {
    "acks",
    "allow.auto.create.topics",
    "auto.commit.enable",
    "auto.offset.reset",
    "delivery.report.only.error",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "isolation.level",
    "log.queue",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "request.required.acks",
    "test.mock.num.brokers",
    "transactional.id",
};

bool IsSecret(std::string_view name) {
  for (const char* word :
       {"password", "secret", "key", "pem", "token", "oauthbearer.config", "kinit"}) {
    if (absl::StrContains(ToAbsl(name), word)) return true;
  }
  return false;
}

absl::StatusCode CodeOf(rd_kafka_resp_err_t error) {
  switch (error) {
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
    case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
      return absl::StatusCode::kDeadlineExceeded;
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
      return absl::StatusCode::kNotFound;
    case RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS:
      return absl::StatusCode::kAlreadyExists;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
      return absl::StatusCode::kPermissionDenied;
    case RD_KAFKA_RESP_ERR__FENCED:
    case RD_KAFKA_RESP_ERR_PRODUCER_FENCED:
    case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH:
      return absl::StatusCode::kAborted;
    case RD_KAFKA_RESP_ERR__INVALID_ARG:
    case RD_KAFKA_RESP_ERR_INVALID_CONFIG:
    case RD_KAFKA_RESP_ERR_INVALID_PARTITIONS:
    case RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR:
    case RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT:
    case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
      return absl::StatusCode::kInvalidArgument;
    case RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION:
      return absl::StatusCode::kUnimplemented;
    // Among them that records were given up before they were read: what begins anew asks for what
    // is there.
    default:
      return absl::StatusCode::kUnavailable;
  }
}

absl::Status Set(rd_kafka_conf_t* conf, const std::string& name, const std::string& value) {
  char reason[512] = {};
  if (rd_kafka_conf_set(conf, name.c_str(), value.c_str(), reason, sizeof reason) ==
      RD_KAFKA_CONF_OK) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "property ", name, ": ",
      IsSecret(name) ? std::string("librdkafka does not take its value") : std::string(reason)));
}

}  // namespace

absl::Status StatusOf(rd_kafka_resp_err_t error, std::string_view what) {
  if (error == RD_KAFKA_RESP_ERR_NO_ERROR) return absl::OkStatus();
  return absl::Status(CodeOf(error), absl::StrCat(ToAbsl(what), ": ", rd_kafka_err2str(error), " (",
                                                  rd_kafka_err2name(error), ")"));
}

absl::Status StatusOf(const rd_kafka_error_t& error, std::string_view what) {
  const rd_kafka_resp_err_t code = rd_kafka_error_code(&error);
  return absl::Status(CodeOf(code), absl::StrCat(ToAbsl(what), ": ", rd_kafka_error_string(&error),
                                                 " (", rd_kafka_err2name(code), ")"));
}

int ToMillis(absl::Duration duration) {
  const std::int64_t millis =
      absl::ToInt64Milliseconds(absl::Ceil(duration, absl::Milliseconds(1)));
  return static_cast<int>(
      std::clamp<std::int64_t>(millis, 0, std::numeric_limits<std::int32_t>::max()));
}

std::string WithoutSecrets(std::string text, const Client::Properties& properties) {
  std::vector<std::pair<absl::string_view, absl::string_view>> hidden;
  for (const auto& [name, value] : properties) {
    if (IsSecret(name) && !value.empty()) hidden.emplace_back(value, "<hidden>");
  }
  // All at once: it takes the longest that fits, so of one secret that begins with another nothing
  // is left.
  return absl::StrReplaceAll(text, hidden);
}

absl::StatusOr<std::unique_ptr<Client>> Client::Open(rd_kafka_type_t type,
                                                     const ClusterOptions& cluster,
                                                     const Properties& ours, Callbacks callbacks) {
  Owned<rd_kafka_conf_t> conf(rd_kafka_conf_new());
  for (const auto& [name, value] : cluster.properties) {
    if (std::find(std::begin(kReserved), std::end(kReserved), name) != std::end(kReserved)) {
      return absl::InvalidArgumentError(
          absl::StrCat("property ", name, ": the bridge sets it itself; leave it out"));
    }
    CORDWOOD_RETURN_IF_ERROR(Set(conf.get(), name, value));
  }
  for (const auto& [name, value] : ours) CORDWOOD_RETURN_IF_ERROR(Set(conf.get(), name, value));

  std::unique_ptr<Client> client(new Client(cluster));
  client->callbacks_ = std::move(callbacks);
  rd_kafka_conf_set_opaque(conf.get(), client.get());
  rd_kafka_conf_set_log_cb(conf.get(), &Client::OnLog);
  rd_kafka_conf_set_error_cb(conf.get(), &Client::OnError);
  if (client->callbacks_.on_delivery) {
    rd_kafka_conf_set_dr_msg_cb(conf.get(),
                                [](rd_kafka_t*, const rd_kafka_message_t* message, void* opaque) {
                                  Of(opaque).callbacks_.on_delivery(*message);
                                });
  }
  char reason[512] = {};
  client->handle_ = rd_kafka_new(type, conf.get(), reason, sizeof reason);
  if (client->handle_ == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("librdkafka: ", WithoutSecrets(reason, cluster.properties)));
  }
  (void)conf.release();  // the handle has it now
  return client;
}

Client::~Client() {
  if (handle_ == nullptr) return;
  // What is queued or under way is given up; the reports of that are nobody's business any more.
  callbacks_ = {.on_delivery = [](const rd_kafka_message_t&) {}, .on_error = {}};
  rd_kafka_purge(handle_, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
  rd_kafka_destroy(handle_);
}

absl::StatusOr<Owned<rd_kafka_topic_t>> Client::OpenTopic(std::string_view name) const {
  Owned<rd_kafka_topic_t> topic(rd_kafka_topic_new(handle_, std::string(name).c_str(), nullptr));
  if (topic == nullptr) {
    return StatusOf(rd_kafka_last_error(), absl::StrCat("Kafka topic ", ToAbsl(name)));
  }
  return topic;
}

absl::Status Client::Ask(std::string_view what, absl::Duration timeout, std::stop_token stop,
                         absl::FunctionRef<rd_kafka_resp_err_t(int millis)> ask) const {
  const absl::Time end = absl::Now() + timeout;
  // No call of librdkafka that waits can be ended, so the first ones are short; longer ones follow,
  // as each asks anew, and one who answers late would never be heard.
  for (absl::Duration each = kLook;; each *= 2) {
    const absl::Duration left = end - absl::Now();
    const rd_kafka_resp_err_t error = ask(ToMillis(std::min(each, left)));
    const bool is_late =
        error == RD_KAFKA_RESP_ERR__TIMED_OUT || error == RD_KAFKA_RESP_ERR__TRANSPORT;
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR && stop.stop_requested()) {
      return absl::CancelledError(ToAbsl(what));
    }
    if (!is_late || left <= each) return Explained(error, what);
    // Some errors come at once.
    if (error == RD_KAFKA_RESP_ERR__TRANSPORT) Poll(kLook);
  }
}

absl::StatusOr<std::string> Client::ClusterId(absl::Duration timeout, std::stop_token stop) const {
  const absl::Time end = absl::Now() + timeout;
  for (;;) {
    const rd_kafka_metadata_t* got = nullptr;
    // The answer is nobody's business: it is asked for as librdkafka connects to nobody else.
    if (rd_kafka_metadata(handle_, 0, nullptr, &got, ToMillis(kLook)) ==
        RD_KAFKA_RESP_ERR_NO_ERROR) {
      rd_kafka_metadata_destroy(got);
    }
    if (char* const id = rd_kafka_clusterid(handle_, 0); id != nullptr) {
      std::string copy = id;
      rd_kafka_mem_free(handle_, id);
      return copy;
    }
    if (stop.stop_requested()) return absl::CancelledError("the Kafka cluster");
    if (absl::Now() >= end) return Explained(RD_KAFKA_RESP_ERR__TIMED_OUT, "the Kafka cluster");
    Poll(kLook);
  }
}

absl::StatusOr<std::map<std::string, int>> Client::CountPartitions(std::string_view topic,
                                                                   absl::Duration timeout,
                                                                   std::stop_token stop) const {
  const std::string what = topic.empty() ? std::string("the Kafka cluster")
                                         : absl::StrCat("Kafka topic ", ToAbsl(topic));
  Owned<rd_kafka_topic_t> handle;
  if (!topic.empty()) {
    CORDWOOD_ASSIGN_OR_RETURN(handle, OpenTopic(topic));
  }
  Owned<const rd_kafka_metadata_t> metadata;
  CORDWOOD_RETURN_IF_ERROR(Ask(what, timeout, stop, [&](int millis) {
    const rd_kafka_metadata_t* got = nullptr;
    const auto error =
        rd_kafka_metadata(handle_, handle == nullptr ? 1 : 0, handle.get(), &got, millis);
    metadata.reset(got);
    return error;
  }));
  std::map<std::string, int> counts;
  for (int i = 0; i < metadata->topic_cnt; ++i) {
    const rd_kafka_metadata_topic_t& one = metadata->topics[i];
    if (!topic.empty()) CORDWOOD_RETURN_IF_ERROR(StatusOf(one.err, what));
    if (one.err == RD_KAFKA_RESP_ERR_NO_ERROR) counts[one.topic] = one.partition_cnt;
  }
  if (!topic.empty() && counts.size() != 1) {
    return absl::UnavailableError(absl::StrCat(what, ": no answer"));
  }
  return counts;
}

absl::StatusOr<Client::Ends> Client::EndsOf(std::string_view topic, int partition,
                                            absl::Duration timeout, std::stop_token stop) const {
  Ends ends;
  const std::string name(topic);
  CORDWOOD_RETURN_IF_ERROR(
      Ask(absl::StrCat("Kafka partition ", name, "-", partition), timeout, stop, [&](int millis) {
        return rd_kafka_query_watermark_offsets(handle_, name.c_str(), partition, &ends.low,
                                                &ends.high, millis);
      }));
  return ends;
}

absl::Status Client::Explained(rd_kafka_resp_err_t error, std::string_view what) const {
  const absl::Status status = StatusOf(error, what);
  if (status.ok()) return status;
  Poll(absl::ZeroDuration());
  absl::MutexLock lock(&mutex_);
  if (last_error_.empty()) return status;
  return absl::Status(status.code(), absl::StrCat(status.message(), "; ", last_error_));
}

void Client::OnLog(const rd_kafka_t* handle, int level, const char* facility, const char* text) {
  const Client& client = Of(rd_kafka_opaque(handle));
  if (!client.cluster_.on_log) return;
  client.cluster_.on_log(
      level, WithoutSecrets(absl::StrCat(facility, ": ", text), client.cluster_.properties));
}

void Client::OnError(rd_kafka_t*, int code, const char* reason, void* opaque) {
  Client& client = Of(opaque);
  const auto error = static_cast<rd_kafka_resp_err_t>(code);
  const std::string text = WithoutSecrets(absl::StrCat(reason, " (", rd_kafka_err2name(error), ")"),
                                          client.cluster_.properties);
  if (client.callbacks_.on_error) client.callbacks_.on_error(text);
  absl::MutexLock lock(&client.mutex_);
  client.last_error_ = text;
}

}  // namespace cordwood::kafka::internal
