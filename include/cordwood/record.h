// Records: what a program appends, and what it reads back. Long because it is all of it in one
// place, and inline: reading a record is loads from memory.
//
//   producer.Send("orders", {.key = "alice", .value = "book", .headers = {{"unit", "one"}}});
//   for (const RecordView& record : batch) {
//     std::string_view item = record.value().value_or("");  // where it lies in the file's map
//   }
//
// Thread safety: these are values. Several threads may read one at a time; a change needs a lock.
//
// What outlives what: Bytes, HeaderList and Record point at the caller's bytes, which need to live
// until the call that takes them returns. A RecordView and all that it gives are valid while its
// RecordBatch lives (moving the batch keeps them; it may outlive its Consumer and Broker, and die
// in another thread), or, from a PartitionReader, until its next step. An OwnedRecord stands alone.
//
// Do not loop over what is about to die. In C++20 the batch is gone before the first round of
//
//   for (const RecordView& record : consumer.Poll(timeout).value())  // wrong; Clang warns
//
// Name the batch, then loop over it.

#ifndef CORDWOOD_RECORD_H_
#define CORDWOOD_RECORD_H_

#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/attributes.h"
#include "absl/time/time.h"

// Marks a class as a view, so that Clang warns when it is made from what dies at once.
#if defined(__clang__)
#define CORDWOOD_VIEW [[gsl::Pointer]]
#else
#define CORDWOOD_VIEW
#endif

namespace cordwood {

// Counts the records of one partition from 0; an offset is never used again.
using Offset = std::int64_t;

// No limit, for every option in bytes or records.
inline constexpr std::int64_t kUnlimited = std::numeric_limits<std::int64_t>::max();

class OwnedRecord;
class RecordView;

namespace internal {

// Where records come from. It lives as long as the open partition, which a batch pins.
struct PartitionName {
  std::string topic = {};
  int partition = 0;
};

// A record as it lies in a segment:
//
//   body -> | value | key | headers section |
//
// The headers section, absent when there are none, is a u32 of its own size (these four bytes
// included), then an entry per header: u32 key bytes, u32 value bytes (kNoHeaderValue: null), key,
// value. All integers are little-endian, nothing is aligned.
struct RecordParts {
  static constexpr std::uint32_t kHasKey = 1;
  static constexpr std::uint32_t kHasValue = 2;

  const char* body = nullptr;
  std::uint32_t value_bytes = 0;
  std::uint32_t key_bytes = 0;
  std::uint32_t headers_bytes = 0;  // the whole section; 0: no headers
  std::uint32_t flags = 0;
  Offset offset = 0;
  std::int64_t timestamp_ns = 0;  // since 1970, UTC
  const PartitionName* where = nullptr;
};

inline constexpr std::uint32_t kNoHeaderValue = 0xFFFFFFFF;
inline constexpr std::size_t kHeadersSizeBytes = 4;

// An unaligned little-endian u32. Compilers make one load of it.
inline std::uint32_t LoadU32(const char* at) {
  const auto byte = [at](int i) {
    return std::uint32_t{static_cast<unsigned char>(at[i])} << (8 * i);
  };
  return byte(0) | byte(1) | byte(2) | byte(3);
}

// Nanoseconds since 1970, as records keep them. What an int64 cannot hold (before 1677, after
// 2262) becomes its limit, and the limits come back as InfinitePast and InfiniteFuture.
inline std::int64_t TimeToNanos(absl::Time time) { return absl::ToUnixNanos(time); }
inline absl::Time NanosToTime(std::int64_t nanos) {
  if (nanos == std::numeric_limits<std::int64_t>::min()) return absl::InfinitePast();
  if (nanos == std::numeric_limits<std::int64_t>::max()) return absl::InfiniteFuture();
  return absl::FromUnixNanos(nanos);
}

class BatchBuilder;

}  // namespace internal

// Bytes or none, for what goes in. nullptr and {} are none, "" is not. It takes the place of
// std::optional<std::string_view>, which compiles with nullptr and crashes.
class CORDWOOD_VIEW Bytes {
 public:
  constexpr Bytes() = default;
  constexpr Bytes(std::nullptr_t) {}
  constexpr Bytes(std::nullopt_t) {}
  constexpr Bytes(const char* s ABSL_ATTRIBUTE_LIFETIME_BOUND)
      : view_(s == nullptr ? std::nullopt : std::optional<std::string_view>(s)) {}
  Bytes(const std::string& s ABSL_ATTRIBUTE_LIFETIME_BOUND) : view_(s) {}
  constexpr Bytes(std::string_view s) : view_(s) {}
  constexpr Bytes(std::optional<std::string_view> s) : view_(s) {}

  // None, or what it points at.
  constexpr std::optional<std::string_view> get() const { return view_; }
  // The same without a copy of it, for the engine: a copy of what was stored piece by piece a
  // moment ago stalls.
  constexpr std::string_view bytes() const {
    return view_.has_value() ? *view_ : std::string_view();
  }
  constexpr bool has_value() const { return view_.has_value(); }

 private:
  std::optional<std::string_view> view_ = {};
};

// A name and a value beside a record's own. Names may repeat; their order is kept.
struct Header {
  std::string_view key = {};
  Bytes value = {};
};

// The headers of a record that was read: decoded as they are walked, nothing is allocated. Bytes
// that are no header end the walk; nothing outside of them is ever read.
class HeadersView {
 public:
  // Goes forward, once.
  class iterator {
   public:
    using value_type = Header;
    using difference_type = std::ptrdiff_t;
    using iterator_category = std::input_iterator_tag;
    using pointer = const Header*;
    using reference = const Header&;

    iterator() = default;
    // The Header lives in the iterator: it changes with ++. The bytes that it names do not.
    reference operator*() const ABSL_ATTRIBUTE_LIFETIME_BOUND { return header_; }
    pointer operator->() const ABSL_ATTRIBUTE_LIFETIME_BOUND { return &header_; }
    iterator& operator++() {
      Decode();
      return *this;
    }
    void operator++(int) { Decode(); }
    bool operator==(const iterator& other) const { return at_ == other.at_; }

   private:
    friend class HeadersView;
    iterator(const char* at, const char* end) : at_(at), next_(at), end_(end) {}

    // Goes to the entry at next_, or to end_ if there is no whole one.
    void Decode() {
      at_ = next_;
      const auto left = static_cast<std::size_t>(end_ - next_);
      if (left < 8) return Stop();
      const std::size_t key_bytes = internal::LoadU32(next_);
      const std::uint32_t value_field = internal::LoadU32(next_ + 4);
      const bool has_value = value_field != internal::kNoHeaderValue;
      const std::size_t value_bytes = has_value ? value_field : 0;
      // Each is compared with what is left, so that no sum can wrap.
      if (key_bytes > left - 8 || value_bytes > left - 8 - key_bytes) return Stop();
      const char* key = next_ + 8;
      header_.key = std::string_view(key, key_bytes);
      header_.value = has_value ? Bytes(std::string_view(key + key_bytes, value_bytes)) : Bytes();
      next_ = key + key_bytes + value_bytes;
    }
    void Stop() { at_ = next_ = end_; }

    const char* at_ = nullptr;    // the entry in header_
    const char* next_ = nullptr;  // the one after it
    const char* end_ = nullptr;
    Header header_ = {};
  };

  constexpr HeadersView() = default;
  // The entries of a headers section, without the section's size before them.
  constexpr HeadersView(const char* entries, std::size_t bytes)
      : entries_(entries), bytes_(bytes) {}

  iterator begin() const {
    iterator first(entries_, entries_ + bytes_);
    first.Decode();
    return first;
  }
  iterator end() const { return iterator(entries_ + bytes_, entries_ + bytes_); }

  // Walks all of them.
  std::size_t size() const {
    std::size_t count = 0;
    for (iterator i = begin(), last = end(); i != last; ++i) ++count;
    return count;
  }
  bool empty() const { return begin() == end(); }

  // The value of the last header of that name (Kafka's lastHeader). None: there is no such header,
  // or its value is null.
  std::optional<std::string_view> Last(std::string_view key) const {
    std::optional<std::string_view> found;
    for (iterator i = begin(), last = end(); i != last; ++i) {
      if (i->key == key) found = i->value.get();
    }
    return found;
  }

  // The entries' bytes, to copy them as they are.
  constexpr std::string_view encoded() const { return std::string_view(entries_, bytes_); }

 private:
  const char* entries_ = nullptr;
  std::size_t bytes_ = 0;
};

// Headers that go in: a list in braces, a vector, a span, or those of a record that came in.
class CORDWOOD_VIEW HeaderList {
 public:
  constexpr HeaderList() = default;
  HeaderList(std::initializer_list<Header> l ABSL_ATTRIBUTE_LIFETIME_BOUND)
      : list_(l.begin(), l.size()) {}
  HeaderList(const std::vector<Header>& v ABSL_ATTRIBUTE_LIFETIME_BOUND) : list_(v) {}
  HeaderList(std::span<const Header> s) : list_(s) {}
  HeaderList(const HeadersView& v) : view_(v), is_view_(true) {}

  // Calls f(const Header&) for each, in order.
  template <class F>
  void ForEach(F&& f) const {
    if (is_view_) {
      for (const Header& header : view_) f(header);
    } else {
      for (const Header& header : list_) f(header);
    }
  }
  bool empty() const { return list_.empty() && (!is_view_ || view_.empty()); }

  // Set for headers that came in: the bytes that HeadersView::encoded() gives.
  std::optional<std::string_view> encoded() const {
    if (!is_view_) return std::nullopt;
    return view_.encoded();
  }

 private:
  std::span<const Header> list_ = {};
  HeadersView view_ = {};
  bool is_view_ = false;
};

// What is appended. No value is a tombstone: in a compacted topic it deletes its key. No timestamp
// is now. No partition lets the topic's partitioner choose.
struct Record {
  Bytes key = {};
  Bytes value = {};
  HeaderList headers = {};
  std::optional<absl::Time> timestamp = {};
  std::optional<int> partition = {};
};

// Names a partition.
struct TopicPartition {
  std::string topic = {};
  int partition = 0;

  friend auto operator<=>(const TopicPartition&, const TopicPartition&) = default;
  template <typename H>
  friend H AbslHashValue(H state, const TopicPartition& where) {
    return H::combine(std::move(state), where.topic, where.partition);
  }
};

// A record that was read, in the file's map: nothing was copied. A small value.
class RecordView {
 public:
  RecordView() = default;
  // For the library: `parts` says where the bytes lie, and is believed.
  explicit RecordView(const internal::RecordParts& parts) : parts_(parts) {}

  // None: it has no key.
  std::optional<std::string_view> key() const ABSL_ATTRIBUTE_LIFETIME_BOUND {
    if ((parts_.flags & internal::RecordParts::kHasKey) == 0) return std::nullopt;
    return std::string_view(parts_.body + parts_.value_bytes, parts_.key_bytes);
  }
  // None: it is a tombstone.
  std::optional<std::string_view> value() const ABSL_ATTRIBUTE_LIFETIME_BOUND {
    if ((parts_.flags & internal::RecordParts::kHasValue) == 0) return std::nullopt;
    return std::string_view(parts_.body, parts_.value_bytes);
  }
  HeadersView headers() const ABSL_ATTRIBUTE_LIFETIME_BOUND {
    if (parts_.headers_bytes <= internal::kHeadersSizeBytes) return HeadersView();
    return HeadersView(
        parts_.body + parts_.value_bytes + parts_.key_bytes + internal::kHeadersSizeBytes,
        parts_.headers_bytes - internal::kHeadersSizeBytes);
  }
  Offset offset() const { return parts_.offset; }
  // In nanoseconds: the producer's, or that of the append, as TopicConfig::timestamp_type says.
  absl::Time timestamp() const { return internal::NanosToTime(parts_.timestamp_ns); }
  std::string_view topic() const ABSL_ATTRIBUTE_LIFETIME_BOUND {
    return parts_.where == nullptr ? std::string_view() : std::string_view(parts_.where->topic);
  }
  int partition() const { return parts_.where == nullptr ? 0 : parts_.where->partition; }
  bool is_tombstone() const { return (parts_.flags & internal::RecordParts::kHasValue) == 0; }

  // The same key, value, headers and timestamp, to append elsewhere; no partition. It points at
  // the bytes that this view points at.
  Record ToRecord() const ABSL_ATTRIBUTE_LIFETIME_BOUND {
    return Record{.key = key(), .value = value(), .headers = headers(), .timestamp = timestamp()};
  }
  // What stays when the batch goes.
  OwnedRecord Copy() const;

 private:
  friend class OwnedRecord;
  internal::RecordParts parts_ = {};
};

// A record that owns its bytes, in one allocation. Moving it keeps what its accessors gave.
class OwnedRecord {
 public:
  OwnedRecord() = default;
  explicit OwnedRecord(const RecordView& record)
      : OwnedRecord(record.parts_, record.topic(), record.partition()) {}
  OwnedRecord(const OwnedRecord& other)
      : OwnedRecord(other.view_.parts_, other.topic_, other.partition_) {}
  OwnedRecord(OwnedRecord&& other) noexcept
      : bytes_(std::move(other.bytes_)),
        view_(std::exchange(other.view_, {})),
        topic_(std::exchange(other.topic_, {})),
        partition_(std::exchange(other.partition_, 0)) {}
  OwnedRecord& operator=(OwnedRecord other) noexcept {
    std::swap(bytes_, other.bytes_);
    std::swap(view_, other.view_);
    std::swap(topic_, other.topic_);
    std::swap(partition_, other.partition_);
    return *this;
  }
  ~OwnedRecord() = default;

  std::optional<std::string_view> key() const ABSL_ATTRIBUTE_LIFETIME_BOUND { return view_.key(); }
  std::optional<std::string_view> value() const ABSL_ATTRIBUTE_LIFETIME_BOUND {
    return view_.value();
  }
  HeadersView headers() const ABSL_ATTRIBUTE_LIFETIME_BOUND { return view_.headers(); }
  Offset offset() const { return view_.offset(); }
  absl::Time timestamp() const { return view_.timestamp(); }
  std::string_view topic() const ABSL_ATTRIBUTE_LIFETIME_BOUND { return topic_; }
  int partition() const { return partition_; }
  bool is_tombstone() const { return view_.is_tombstone(); }
  Record ToRecord() const ABSL_ATTRIBUTE_LIFETIME_BOUND { return view_.ToRecord(); }

 private:
  OwnedRecord(const internal::RecordParts& parts, std::string_view topic, int partition)
      : partition_(partition) {
    const std::size_t body_bytes =
        std::size_t{parts.value_bytes} + parts.key_bytes + parts.headers_bytes;
    // new[] of char is aligned for every type, so a typed value can be read in place here too.
    bytes_.reset(new char[body_bytes + topic.size()]);
    if (body_bytes != 0) std::memcpy(bytes_.get(), parts.body, body_bytes);
    if (!topic.empty()) std::memcpy(bytes_.get() + body_bytes, topic.data(), topic.size());
    view_.parts_ = parts;
    view_.parts_.body = bytes_.get();
    view_.parts_.where = nullptr;
    topic_ = std::string_view(bytes_.get() + body_bytes, topic.size());
  }

  std::unique_ptr<char[]> bytes_ = {};  // the body, then the topic's name
  RecordView view_ = {};                // into bytes_, of nowhere
  std::string_view topic_ = {};         // into bytes_
  int partition_ = 0;
};

inline OwnedRecord RecordView::Copy() const { return OwnedRecord(*this); }

// Why records are not there any more.
enum class GapReason {
  kRetention,   // too old, or too many bytes or records
  kTrim,        // Partition::Trim
  kDropped,     // the backlog was full and its policy is kDropOldest
  kTombstones,  // a tombstone was removed that this reader had not seen
  kDamage,      // bytes on the disk are wrong
  kPowerLoss,   // published, not yet durable, and then the power went
};

// In words: "power loss".
constexpr std::string_view GapReasonName(GapReason reason) {
  switch (reason) {
    case GapReason::kRetention:
      return "retention";
    case GapReason::kTrim:
      return "trim";
    case GapReason::kDropped:
      return "dropped";
    case GapReason::kTombstones:
      return "tombstones";
    case GapReason::kDamage:
      return "damage";
    case GapReason::kPowerLoss:
      return "power loss";
  }
  return "unknown";
}

// Offsets [from, to) that a reader wanted and will not get.
struct Gap {
  std::string topic = {};
  int partition = 0;
  Offset from = 0, to = 0;
  GapReason reason = GapReason::kRetention;

  friend bool operator==(const Gap&, const Gap&) = default;
};

// Where a record went. The timestamp is the one that was stored.
struct RecordMetadata {
  std::string topic = {};
  int partition = 0;
  Offset offset = 0;
  absl::Time timestamp = {};
};

// When a write is done.
enum class Durability {
  kPublished,  // visible to every reader; survives the end of the process, by any signal
  kDurable,    // survives a power cut too
};

// Of Partition::Read.
enum class Direction { kForward, kBackward };

namespace internal {

// Where an iterator gets more views from than lie side by side: a reader's next ones.
template <class View>
class ViewSource {
 public:
  struct Run {
    const View* begin = nullptr;  // null: there are no more
    const View* end = nullptr;
  };
  // At least one view, or none. The run before it is not valid any more.
  virtual Run NextRun() = 0;

 protected:
  ~ViewSource() = default;
};

}  // namespace internal

// Views that lie side by side in memory.
template <class View>
class ViewRange {
 public:
  // Goes forward, once.
  class iterator {
   public:
    using value_type = View;
    using difference_type = std::ptrdiff_t;
    using iterator_category = std::input_iterator_tag;
    using pointer = const View*;
    using reference = const View&;

    constexpr iterator() = default;
    explicit constexpr iterator(const View* at) : at_(at) {}
    // For a reader: from `at` to `stop`, then what the source has. It must outlive this.
    constexpr iterator(const View* at, const View* stop, internal::ViewSource<View>* source)
        : at_(at), stop_(stop), source_(source) {}

    constexpr reference operator*() const { return *at_; }
    constexpr pointer operator->() const { return at_; }
    constexpr iterator& operator++() {
      // Over a range in memory stop_ is null and never met.
      if (++at_ == stop_) More();
      return *this;
    }
    constexpr void operator++(int) { ++*this; }
    constexpr bool operator==(const iterator& other) const { return at_ == other.at_; }

   private:
    constexpr void More() {
      const auto run = source_->NextRun();
      at_ = run.begin;
      stop_ = run.end;
    }

    const View* at_ = nullptr;
    const View* stop_ = nullptr;
    internal::ViewSource<View>* source_ = nullptr;
  };

  constexpr ViewRange() = default;
  constexpr ViewRange(const View* begin, const View* end) : begin_(begin), end_(end) {}

  constexpr iterator begin() const ABSL_ATTRIBUTE_LIFETIME_BOUND { return iterator(begin_); }
  constexpr iterator end() const ABSL_ATTRIBUTE_LIFETIME_BOUND { return iterator(end_); }
  constexpr std::size_t size() const { return static_cast<std::size_t>(end_ - begin_); }
  constexpr bool empty() const { return begin_ == end_; }

 protected:
  constexpr void SetRange(const View* begin, const View* end) {
    begin_ = begin;
    end_ = end;
  }

 private:
  const View* begin_ = nullptr;
  const View* end_ = nullptr;
};

// The records of one partition in a batch, at least one. Valid while the batch lives.
class PartitionRecords : public ViewRange<RecordView> {
 public:
  std::string_view topic() const ABSL_ATTRIBUTE_LIFETIME_BOUND {
    return where_ == nullptr ? std::string_view() : std::string_view(where_->topic);
  }
  int partition() const { return where_ == nullptr ? 0 : where_->partition; }
  Offset next_offset() const { return next_offset_; }  // what a commit after these records stores

 private:
  friend class internal::BatchBuilder;
  const internal::PartitionName* where_ = nullptr;
  Offset next_offset_ = 0;
  std::size_t first_ = 0, count_ = 0;  // in the batch, until its records have their last address
};

// What one Poll gave: the records, partition after partition, and what is missing. A batch may
// hold gaps and no record.
class RecordBatch : public ViewRange<RecordView> {
 public:
  RecordBatch() = default;
  RecordBatch(RecordBatch&& other) noexcept { Take(other); }
  RecordBatch& operator=(RecordBatch&& other) noexcept {
    if (this != &other) Take(other);
    return *this;
  }
  ~RecordBatch() = default;

  // What is missing; a Commit goes past it.
  std::span<const Gap> gaps() const ABSL_ATTRIBUTE_LIFETIME_BOUND { return gaps_; }
  // The same records by partition, where each is committed on its own.
  std::span<const PartitionRecords> partitions() const ABSL_ATTRIBUTE_LIFETIME_BOUND {
    return parts_;
  }

 private:
  friend class internal::BatchBuilder;

  // Leaves the other one empty, not with a range over what it gave away.
  void Take(RecordBatch& other) {
    records_ = std::move(other.records_);
    parts_ = std::move(other.parts_);
    gaps_ = std::move(other.gaps_);
    pins_ = std::move(other.pins_);
    SetRange(records_.data(), records_.data() + records_.size());
    other.records_.clear();
    other.parts_.clear();
    other.gaps_.clear();
    other.pins_.clear();
    other.SetRange(nullptr, nullptr);
  }

  std::vector<RecordView> records_ = {};
  std::vector<PartitionRecords> parts_ = {};  // ranges over records_
  std::vector<Gap> gaps_ = {};
  std::vector<std::shared_ptr<const void>> pins_ = {};  // the maps and names the views point at
};

namespace internal {

// Fills a RecordBatch; for the library. Clear() keeps the memory, so that filling the same batch
// again allocates nothing once it has grown. The range is empty until Finish(), for until then the
// records may move.
//
//   BatchBuilder builder(batch);
//   builder.Clear();
//   builder.BeginPartition(&name);
//   builder.Add(view);
//   builder.EndPartition(view.offset() + 1);
//   builder.Pin(segment);
//   builder.Finish();
class BatchBuilder {
 public:
  explicit BatchBuilder(RecordBatch& batch ABSL_ATTRIBUTE_LIFETIME_BOUND) : batch_(&batch) {}

  void Clear() {
    batch_->SetRange(nullptr, nullptr);
    batch_->records_.clear();
    batch_->parts_.clear();
    batch_->gaps_.clear();
    batch_->pins_.clear();
  }

  void BeginPartition(const PartitionName* where) {
    where_ = where;
    first_ = batch_->records_.size();
  }
  void Add(const RecordView& record) { batch_->records_.push_back(record); }
  // Without a record since BeginPartition there is no part.
  void EndPartition(Offset next_offset) {
    const std::size_t count = batch_->records_.size() - first_;
    if (count == 0) return;
    PartitionRecords part;
    part.where_ = where_;
    part.next_offset_ = next_offset;
    part.first_ = first_;
    part.count_ = count;
    batch_->parts_.push_back(part);
  }
  void AddGap(Gap gap) { batch_->gaps_.push_back(std::move(gap)); }
  void Pin(std::shared_ptr<const void> pin) { batch_->pins_.push_back(std::move(pin)); }

  std::size_t size() const { return batch_->records_.size(); }
  std::vector<RecordView>& records() ABSL_ATTRIBUTE_LIFETIME_BOUND { return batch_->records_; }

  // The records have all been added: now the ranges may point at them.
  void Finish() {
    const RecordView* all = batch_->records_.data();
    batch_->SetRange(all, all + batch_->records_.size());
    for (PartitionRecords& part : batch_->parts_) {
      part.SetRange(all + part.first_, all + part.first_ + part.count_);
    }
  }

 private:
  RecordBatch* batch_;
  const PartitionName* where_ = nullptr;
  std::size_t first_ = 0;
};

}  // namespace internal
}  // namespace cordwood

#endif  // CORDWOOD_RECORD_H_
