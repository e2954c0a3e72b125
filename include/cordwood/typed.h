// Producers and consumers of a program's own types. What is in the log are bytes; Serde<T> in
// cordwood/serde.h says how they become a T.
//
//   auto trades = broker.NewTypedProducer<std::string, Trade>("trades").value();
//   trades.Send("AAPL", Trade{17'512, 100, 1}).value();
//
//   auto reader = broker.NewTypedConsumer<std::string, Trade>({.group = "risk"}).value();
//   if (auto status = reader.Subscribe({"trades"}); !status.ok()) return status;
//   auto batch = reader.Poll(absl::Seconds(1)).value();
//   for (const auto& record : batch) {
//     if (!record.value().ok()) continue;                // a bad record is one bad record
//     const Trade& trade = record.value().value();       // where it lies in the file's map
//   }
//
// Thread safety: a TypedProducer is for any number of threads, a TypedConsumer for one at a time.
//
// What outlives what: a TypedRecord, and a struct or string_view that it gives, are valid while
// their TypedBatch lives; moving the batch keeps them. Do not loop over what is about to die, as
// cordwood/record.h says: name the batch first.

#ifndef CORDWOOD_TYPED_H_
#define CORDWOOD_TYPED_H_

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/base/attributes.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cordwood/broker.h"
#include "cordwood/consumer.h"
#include "cordwood/options.h"
#include "cordwood/producer.h"
#include "cordwood/record.h"
#include "cordwood/serde.h"

namespace cordwood {

template <class K, class V>
class TypedBatch;
template <class K, class V>
class TypedConsumer;

namespace internal {

// What a batch keeps for structs that had to be copied.
using Copies = std::vector<std::shared_ptr<const void>>;

// These two are common in compacted topics: made once, copying one is counting a reference.
inline const absl::Status& TombstoneStatus() {
  static const auto& status =
      *new absl::Status(absl::StatusCode::kNotFound, "a tombstone: the record has no value");
  return status;
}
inline const absl::Status& NoKeyStatus() {
  static const auto& status =
      *new absl::Status(absl::StatusCode::kNotFound, "the record has no key");
  return status;
}

}  // namespace internal

// A key or value, or why the bytes are none: kNotFound for a tombstone (or no key),
// kInvalidArgument for a wrong size, else what Deserialize said. value() && gives the value itself,
// so that `const T& t = record.value().value()` never dangles.
template <class T>
class Decoded {
 public:
  bool ok() const { return result_.ok(); }
  absl::Status status() const { return result_.status(); }

  // As absl::StatusOr::value(): only if ok().
  const T& value() const& ABSL_ATTRIBUTE_LIFETIME_BOUND {
    if constexpr (kInPlace) {
      return *result_.value();
    } else {
      return result_.value();
    }
  }
  T value() && {
    if constexpr (kInPlace) {
      return *result_.value();
    } else {
      return std::move(result_).value();
    }
  }

  // For the library.
  Decoded(std::optional<std::string_view> bytes, const absl::Status& none, internal::Copies& copies)
      : result_(bytes ? Decode(*bytes, copies) : Result(none)) {}

 private:
  static constexpr bool kInPlace = internal::FormOf<T>() == internal::Form::kInPlace;
  using Result = absl::StatusOr<std::conditional_t<kInPlace, const T*, T>>;

  static Result Decode(std::string_view bytes, [[maybe_unused]] internal::Copies& copies) {
    if constexpr (kInPlace) {
      if (bytes.size() != sizeof(T)) return internal::WrongSize(sizeof(T), bytes.size());
      // Trivially copyable: the T began to exist when its bytes were written.
      if (internal::IsAligned<T>(bytes.data())) return reinterpret_cast<const T*>(bytes.data());
      auto copy = std::make_shared<const T>(internal::CopyOut<T>(bytes.data()));
      const T* at = copy.get();
      copies.push_back(std::move(copy));
      return at;
    } else {
      return Serde<T>::Deserialize(bytes);
    }
  }

  Result result_;
};

// A record with its key and value decoded, each for itself. Valid while its TypedBatch lives.
template <class K, class V>
class TypedRecord {
 public:
  const Decoded<K>& key() const ABSL_ATTRIBUTE_LIFETIME_BOUND { return key_; }
  const Decoded<V>& value() const ABSL_ATTRIBUTE_LIFETIME_BOUND { return value_; }
  const RecordView& raw() const ABSL_ATTRIBUTE_LIFETIME_BOUND { return raw_; }
  bool is_tombstone() const { return raw_.is_tombstone(); }

  // For the library.
  TypedRecord(const RecordView& raw, internal::Copies& copies)
      : raw_(raw),
        key_(raw.key(), internal::NoKeyStatus(), copies),
        value_(raw.value(), internal::TombstoneStatus(), copies) {}

 private:
  RecordView raw_;
  Decoded<K> key_;
  Decoded<V> value_;
};

// What one Poll gave, decoded, in the same order. raw() has the gaps and the partitions.
template <class K, class V>
class TypedBatch : public ViewRange<TypedRecord<K, V>> {
 public:
  TypedBatch() = default;
  TypedBatch(TypedBatch&& other) noexcept { Take(other); }
  TypedBatch& operator=(TypedBatch&& other) noexcept {
    if (this != &other) Take(other);
    return *this;
  }
  ~TypedBatch() = default;

  const RecordBatch& raw() const ABSL_ATTRIBUTE_LIFETIME_BOUND { return raw_; }

 private:
  friend class TypedConsumer<K, V>;

  void Take(TypedBatch& other) {
    records_ = std::move(other.records_);  // before the bytes that they point at
    copies_ = std::move(other.copies_);
    raw_ = std::move(other.raw_);
    Publish();
    other.Clear();
  }

  // Keeps the memory.
  void Clear() {
    records_.clear();
    copies_.clear();
    Publish();
  }

  void Decode() {
    Clear();
    records_.reserve(raw_.size());
    for (const RecordView& record : raw_) records_.emplace_back(record, copies_);
    Publish();
  }

  void Publish() { this->SetRange(records_.data(), records_.data() + records_.size()); }

  RecordBatch raw_ = {};  // first, so that it is destroyed after what points at its bytes
  internal::Copies copies_ = {};
  std::vector<TypedRecord<K, V>> records_ = {};
};

// What a Record has beside its key and value.
struct SendExtra {
  HeaderList headers = {};
  std::optional<absl::Time> timestamp = {};
  std::optional<int> partition = {};
};

namespace internal {

// A string that keeps its memory from one Send of this thread to the next. A Serde that itself
// sends gets a new one.
class Scratch {
 public:
  Scratch() : text_(std::exchange(Kept(), std::string())) { text_.clear(); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    if (text_.capacity() <= kKeptBytesMax) Kept() = std::move(text_);
  }

  std::string& text() ABSL_ATTRIBUTE_LIFETIME_BOUND { return text_; }

 private:
  static constexpr std::size_t kKeptBytesMax = 1 << 20;
  static std::string& Kept() {
    thread_local std::string kept;
    return kept;
  }
  std::string text_;
};

// The bytes of a key or value that is sent: its own where it has them, else written to a buffer.
// It must not outlive the value.
template <class T>
class Encoded {
 public:
  explicit Encoded(const T& value ABSL_ATTRIBUTE_LIFETIME_BOUND) {
    if constexpr (kForm == Form::kString || kForm == Form::kStringView) {
      bytes_ = value;
    } else if constexpr (kForm == Form::kInPlace) {
      bytes_ = BytesOf(value);
    } else if constexpr (kForm == Form::kNumber) {
      buffer_ = NumberToBytes(value);
      bytes_ = std::string_view(buffer_.data(), buffer_.size());
    } else {
      std::string& text = buffer_.text();
      if constexpr (std::is_void_v<decltype(Serde<T>::Serialize(value, text))>) {
        Serde<T>::Serialize(value, text);
      } else {
        status_ = Serde<T>::Serialize(value, text);
      }
      bytes_ = text;
    }
  }
  Encoded(const Encoded&) = delete;
  Encoded& operator=(const Encoded&) = delete;

  const absl::Status& status() const ABSL_ATTRIBUTE_LIFETIME_BOUND { return status_; }
  std::string_view bytes() const ABSL_ATTRIBUTE_LIFETIME_BOUND { return bytes_; }

 private:
  struct None {};
  static constexpr Form kForm = FormOf<T>();
  static constexpr bool kIsWritten = kForm == Form::kCustom || kForm == Form::kMessage;
  using Buffer = std::conditional_t<
      kIsWritten, Scratch,
      std::conditional_t<kForm == Form::kNumber, std::array<char, sizeof(T)>, None>>;

  absl::Status status_ = {};
  Buffer buffer_ = {};
  std::string_view bytes_ = {};
};

template <class K>
struct KeyRules {
  static_assert(IsGoodKey<K>(),
                "cordwood: this key has padding, whose bytes are not defined: equal keys would be "
                "different bytes; name the padding and set it, or write a cordwood::Serde for it");
};

}  // namespace internal

// Sends to one topic. A handle, as the Producer in it: cheap to copy, every operation const and
// thread-safe.
template <class K, class V>
class TypedProducer {
 public:
  TypedProducer() = default;

  // As Producer::Send. What Serialize refuses is not sent, and its error is that of the call.
  absl::StatusOr<RecordMetadata> Send(const K& key, const V& value, const SendExtra& extra = {},
                                      const SendOptions& options = {}) const {
    const internal::Encoded<V> value_bytes(value);
    if (!value_bytes.status().ok()) return value_bytes.status();
    return SendEncoded(key, value_bytes.bytes(), extra, options);
  }

  // In a compacted topic: the key goes.
  absl::StatusOr<RecordMetadata> SendTombstone(const K& key, const SendExtra& extra = {},
                                               const SendOptions& options = {}) const {
    return SendEncoded(key, nullptr, extra, options);
  }

  // As Producer::Flush.
  absl::Status Flush() const { return producer_.Flush(); }

  // For Broker::NewTypedProducer.
  TypedProducer(Producer producer, std::string topic)
      : producer_(std::move(producer)), topic_(std::move(topic)) {}

 private:
  static_assert(sizeof(internal::KeyRules<K>) != 0);  // checks them

  absl::StatusOr<RecordMetadata> SendEncoded(const K& key, Bytes value, const SendExtra& extra,
                                             const SendOptions& options) const {
    const internal::Encoded<K> key_bytes(key);
    if (!key_bytes.status().ok()) return key_bytes.status();
    return producer_.Send(topic_,
                          {.key = key_bytes.bytes(),
                           .value = value,
                           .headers = extra.headers,
                           .timestamp = extra.timestamp,
                           .partition = extra.partition},
                          options);
  }

  Producer producer_ = {};
  std::string topic_ = {};
};

// Moves, as the Consumer in it, and is for one thread at a time.
template <class K, class V>
class TypedConsumer {
 public:
  // As Consumer::Subscribe.
  absl::Status Subscribe(std::vector<std::string> topics) {
    return consumer_.Subscribe(std::move(topics));
  }

  // As Consumer::Poll. A record that cannot be decoded is no error of the Poll but of that record.
  absl::StatusOr<TypedBatch<K, V>> Poll(absl::Duration timeout, std::stop_token stop = {}) {
    absl::StatusOr<RecordBatch> raw = consumer_.Poll(timeout, std::move(stop));
    if (!raw.ok()) return std::move(raw).status();
    TypedBatch<K, V> batch;
    batch.raw_ = *std::move(raw);
    batch.Decode();
    return batch;
  }

  // As Consumer::PollInto: uses the memory of the batch again.
  absl::Status PollInto(TypedBatch<K, V>& batch, absl::Duration timeout,
                        std::stop_token stop = {}) {
    batch.Clear();
    absl::Status status = consumer_.PollInto(batch.raw_, timeout, std::move(stop));
    if (status.ok()) batch.Decode();
    return status;
  }

  // As Consumer::Commit: a record that could not be decoded counts as read.
  absl::Status Commit() { return consumer_.Commit(); }

  Consumer& consumer() ABSL_ATTRIBUTE_LIFETIME_BOUND { return consumer_; }  // everything else

  // For Broker::NewTypedConsumer.
  explicit TypedConsumer(Consumer consumer) : consumer_(std::move(consumer)) {}

 private:
  static_assert(sizeof(internal::KeyRules<K>) != 0);  // checks them

  Consumer consumer_;
};

// kNotFound: there is no such topic.
template <class K, class V>
absl::StatusOr<TypedProducer<K, V>> Broker::NewTypedProducer(std::string_view topic,
                                                             const ProducerOptions& options) const {
  absl::Status found = OpenTopic(topic).status();
  if (!found.ok()) return found;
  absl::StatusOr<Producer> producer = NewProducer(options);
  if (!producer.ok()) return std::move(producer).status();
  return TypedProducer<K, V>(*std::move(producer), std::string(topic));
}

template <class K, class V>
absl::StatusOr<TypedConsumer<K, V>> Broker::NewTypedConsumer(const ConsumerOptions& options) const {
  absl::StatusOr<Consumer> consumer = NewConsumer(options);
  if (!consumer.ok()) return std::move(consumer).status();
  return TypedConsumer<K, V>(*std::move(consumer));
}

}  // namespace cordwood

#endif  // CORDWOOD_TYPED_H_
