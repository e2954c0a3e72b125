#include "kafka/transactions.h"

#include <sys/types.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "cordwood/os/clock.h"
#include "cordwood/status_macros.h"

namespace cordwood::kafka::internal {
namespace {

// How long a call of librdkafka may take before the stop token is looked at again.
constexpr absl::Duration kLook = absl::Milliseconds(250);
// The cluster's answer to the commit; librdkafka gives up a commit whose time is over.
constexpr absl::Duration kAnswer = absl::Seconds(5);
constexpr absl::Duration kLastAnswer = absl::Seconds(1);  // of one who is to stop

constexpr absl::Duration kStandsStill = absl::Milliseconds(500);
constexpr absl::Duration kStopMax = absl::Seconds(5);

constexpr char kTimeoutProperty[] = "transaction.timeout.ms";
constexpr std::int64_t kTimeoutMillis = 60'000;  // librdkafka's default

// The record itself is the reason, and the same bytes would be refused again.
bool IsForGood(rd_kafka_resp_err_t error) {
  switch (error) {
    case RD_KAFKA_RESP_ERR_INVALID_MSG:
    case RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE:
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
    case RD_KAFKA_RESP_ERR_INVALID_RECORD:
    case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
      return true;
    default:
      return false;
  }
}

// librdkafka's own limit is below the cluster's, which is the one to say what is too large.
constexpr char kSizeMaxProperty[] = "message.max.bytes";
constexpr char kSizeMax[] = "1000000000";

// Kafka has no time before 1970, and librdkafka takes 0 for "now".
std::int64_t TimestampMillis(const RecordView& record) {
  return std::max<std::int64_t>(absl::ToUnixMillis(record.timestamp()), 1);
}

// The C interface wants a pointer that it does not write through.
void* Untyped(std::string_view bytes) { return const_cast<char*>(bytes.data()); }

Owned<rd_kafka_error_t> Own(rd_kafka_error_t* error) { return Owned<rd_kafka_error_t>(error); }

}  // namespace

absl::StatusOr<absl::Duration> TransactionTimeout(const ClusterOptions& cluster) {
  const auto it = cluster.properties.find(kTimeoutProperty);
  std::int64_t millis = kTimeoutMillis;
  if (it != cluster.properties.end() && !absl::SimpleAtoi(it->second, &millis)) {
    return absl::InvalidArgumentError(absl::StrCat("property ", kTimeoutProperty, ": no number"));
  }
  return absl::Milliseconds(millis);
}

bool GivesUp(absl::Duration since_stop, absl::Duration since_progress) {
  return std::min(since_stop, since_progress) >= kStandsStill || since_stop >= kStopMax;
}

absl::StatusOr<std::unique_ptr<Transactions>> Transactions::Open(
    const ClusterOptions& cluster, const std::string& id, std::string_view target,
    std::function<void(const std::string&)> on_error, std::stop_token stop) {
  std::unique_ptr<Transactions> out(new Transactions());
  out->what_ = absl::StrCat("Kafka topic ", ToAbsl(target));
  Client::Properties ours = {{"transactional.id", id}, {"enable.idempotence", "true"}};
  if (!cluster.properties.contains(kSizeMaxProperty)) ours[kSizeMaxProperty] = kSizeMax;
  CORDWOOD_ASSIGN_OR_RETURN(
      out->client_,
      Client::Open(
          RD_KAFKA_PRODUCER, cluster, ours,
          {.on_delivery = [it = out.get()](const rd_kafka_message_t& m) { it->OnDelivery(m); },
           .on_error = std::move(on_error)}));
  CORDWOOD_ASSIGN_OR_RETURN(out->topic_, out->client_->OpenTopic(target));
  for (;;) {
    const auto error = Own(rd_kafka_init_transactions(out->client_->get(), ToMillis(kLook)));
    if (error == nullptr) return out;
    if (!rd_kafka_error_is_retriable(error.get())) {
      return out->Failed(*error);
    }
    if (stop.stop_requested()) return absl::CancelledError(out->what_);
    out->client_->Poll(kLook);
  }
}

absl::Status Transactions::Begin() {
  failures_.clear();
  const auto error = Own(rd_kafka_begin_transaction(client_->get()));
  return error == nullptr ? absl::OkStatus() : Failed(*error);
}

absl::Status Transactions::Send(const RecordView& record, int partition, std::string_view source,
                                std::stop_token stop) {
  rd_kafka_headers_t* headers = rd_kafka_headers_new(4);
  const auto add = [headers](std::string_view key, std::optional<std::string_view> value) {
    rd_kafka_header_add(headers, key.data(), static_cast<ssize_t>(key.size()),
                        value ? value->data() : nullptr,
                        value ? static_cast<ssize_t>(value->size()) : 0);
  };
  for (const Header& header : record.headers()) add(header.key, header.value.get());
  add(kForwardedHeader, source);

  constexpr std::size_t kCount = 6;
  rd_kafka_vu_t parts[kCount] = {};
  std::size_t count = 0;
  const auto part = [&](rd_kafka_vtype_t type) -> auto& {
    parts[count].vtype = type;
    return parts[count++].u;
  };
  part(RD_KAFKA_VTYPE_RKT).rkt = topic_.get();
  part(RD_KAFKA_VTYPE_PARTITION).i32 = partition;
  part(RD_KAFKA_VTYPE_TIMESTAMP).i64 = TimestampMillis(record);
  part(RD_KAFKA_VTYPE_HEADERS).headers = headers;
  if (const auto value = record.value()) {
    // An empty value is not none: librdkafka tells them apart by the pointer.
    part(RD_KAFKA_VTYPE_VALUE).mem = {Untyped(value->data() == nullptr ? "" : *value),
                                      value->size()};
  }
  if (const auto key = record.key()) {
    part(RD_KAFKA_VTYPE_KEY).mem = {Untyped(key->data() == nullptr ? "" : *key), key->size()};
  }
  for (;;) {
    const auto error = Own(rd_kafka_produceva(client_->get(), parts, count));
    if (error == nullptr) break;
    const rd_kafka_resp_err_t code = rd_kafka_error_code(error.get());
    const bool is_full = code == RD_KAFKA_RESP_ERR__QUEUE_FULL;
    if (is_full && failures_.empty() && !stop.stop_requested()) {
      client_->Poll(kLook);
      continue;
    }
    rd_kafka_headers_destroy(headers);  // still ours
    if (is_full && failures_.empty()) return absl::CancelledError(what_);
    if (!is_full) failures_.push_back({code, IsForGood(code)});
    return Failed(*error);
  }
  return absl::OkStatus();
}

absl::Status Transactions::Finish(std::stop_token stop) {
  CORDWOOD_RETURN_IF_ERROR(WaitForDelivery(stop));
  if (!failures_.empty()) return absl::OkStatus();
  for (;;) {
    const absl::Duration answer = stop.stop_requested() ? kLastAnswer : kAnswer;
    const auto error = Own(rd_kafka_commit_transaction(client_->get(), ToMillis(answer)));
    if (error == nullptr) return absl::OkStatus();
    if (!rd_kafka_error_is_retriable(error.get()) ||
        rd_kafka_error_txn_requires_abort(error.get())) {
      return Failed(*error);
    }
    if (stop.stop_requested()) return absl::CancelledError(what_);
    client_->Poll(kLook);
  }
}

absl::Status Transactions::WaitForDelivery(std::stop_token stop) {
  std::int64_t stopped = 0, progressed = os::MonotonicNanos();
  for (std::int64_t seen = delivered_; failures_.empty();) {
    if (rd_kafka_flush(client_->get(), ToMillis(kLook)) == RD_KAFKA_RESP_ERR_NO_ERROR) break;
    const std::int64_t now = os::MonotonicNanos();
    if (std::exchange(seen, delivered_) != delivered_) progressed = now;
    if (!stop.stop_requested()) continue;
    if (stopped == 0) stopped = now;
    if (GivesUp(absl::Nanoseconds(now - stopped), absl::Nanoseconds(now - progressed))) {
      return absl::CancelledError(what_);
    }
  }
  return absl::OkStatus();
}

void Transactions::ServeAll() const {
  rd_kafka_purge(client_->get(), RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
  rd_kafka_flush(client_->get(), ToMillis(kLook));
}

void Transactions::Abort() const {
  ServeAll();
  // If it fails, the cluster does the same when the transaction's time is over.
  const auto error = Own(rd_kafka_abort_transaction(client_->get(), ToMillis(kLook)));
}

// "Fatal" is what the handle is in; the error that made it so says more.
absl::Status Transactions::Failed(const rd_kafka_error_t& error) const {
  char reason[512] = {};
  const rd_kafka_resp_err_t fatal = rd_kafka_fatal_error(client_->get(), reason, sizeof reason);
  if (fatal == RD_KAFKA_RESP_ERR_NO_ERROR) return StatusOf(error, what_);
  return StatusOf(fatal, absl::StrCat(what_, ": ", reason));
}

void Transactions::OnDelivery(const rd_kafka_message_t& message) {
  if (message.err == RD_KAFKA_RESP_ERR_NO_ERROR) {
    ++delivered_;
    std::int64_t& end = ends_[message.partition];
    end = std::max(end, message.offset + 1);
    return;
  }
  failures_.push_back({message.err, IsForGood(message.err)});
}

}  // namespace cordwood::kafka::internal
