// The append path: what happens between a caller's record and the store of the tail.

#include <algorithm>
#include <limits>

#include "absl/base/attributes.h"
#include "absl/base/optimization.h"
#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "cordwood/log/cursor.h"
#include "cordwood/log/log.h"
#include "cordwood/os/doorbell.h"
#include "cordwood/status_macros.h"
#include "log/turn.h"

namespace cordwood::log {
namespace {

constexpr std::int64_t kNoTimestamp = std::numeric_limits<std::int64_t>::min();
constexpr std::uint64_t kPrefetchAhead = 4096;
// Below this AppendInPlace fills a buffer that is copied: the turn is short then.
constexpr std::size_t kFillInBufferBytes = 4096;

ABSL_ATTRIBUTE_ALWAYS_INLINE inline std::int64_t TimestampOf(const Record& record, bool append_time,
                                                             std::int64_t now_ns) {
  return record.timestamp.has_value() && !append_time
             ? cordwood::internal::TimeToNanos(*record.timestamp)
             : now_ns;
}

// Looks at the clock twice more for one record in 1,024, with the batch that it is in: which one
// depends on what is in it and when it comes, so that none is taken more often than others.
class AppendSample {
 public:
  ABSL_ATTRIBUTE_ALWAYS_INLINE AppendSample(const Context& context, std::uint64_t body_hash,
                                            std::int64_t now_ns, std::size_t records = 1) {
    constexpr std::uint64_t kOneIn = 1024;
    if (ABSL_PREDICT_FALSE((body_hash ^ static_cast<std::uint64_t>(now_ns)) % kOneIn < records)) {
      began_ns_ = context.storage->ElapsedNanos();
    }
  }
  ABSL_ATTRIBUTE_ALWAYS_INLINE void Done(const Context& context) const {
    if (ABSL_PREDICT_FALSE(began_ns_ != kNone)) Record(context);
  }

 private:
  static constexpr std::int64_t kNone = -1;
  ABSL_ATTRIBUTE_NOINLINE void Record(const Context& context) const {
    context.counts().append_latency.Record(context.storage->ElapsedNanos() - began_ns_);
  }

  std::int64_t began_ns_ = kNone;
};

}  // namespace

absl::Status Log::TooLarge(std::uint64_t bytes) const {
  return Where(absl::InvalidArgumentError(
      absl::StrCat(name().topic, "-", name().partition, ": a record of ", bytes,
                   " bytes is over the topic's max.message.bytes of ",
                   std::uint64_t{config_.message_bytes_max})));
}

absl::Status Log::NoKeyError() const {
  return Where(absl::InvalidArgumentError(
      absl::StrCat(name().topic, "-", name().partition,
                   ": a record without a key, and the topic keeps the last record of every key "
                   "(cleanup.policy compact)")));
}

ABSL_ATTRIBUTE_ALWAYS_INLINE inline absl::Status Log::MakeRoom(std::uint64_t bytes,
                                                               std::int64_t now_ns) {
  const ControlBlock& b = block();
  const Tail tail = Tail::Unpack(b.tail.load(std::memory_order_relaxed));
  const std::int64_t first_append = b.first_append_ns.load(std::memory_order_relaxed);
  if (ABSL_PREDICT_TRUE(b.salt[tail.slot].load(std::memory_order_relaxed) == writer_.salt &&
                        tail.position + bytes <= room_.load(std::memory_order_relaxed) &&
                        b.scratch_valid.load(std::memory_order_relaxed) != 0 &&
                        (first_append == 0 || now_ns - first_append < config_.segment_age_ns))) {
    return absl::OkStatus();
  }
  return MakeRoomSlow(bytes, now_ns);
}

ABSL_ATTRIBUTE_ALWAYS_INLINE inline absl::Status Log::CheckExpected(
    const AppendOptions& options) const {
  return ABSL_PREDICT_TRUE(!options.expected_offset.has_value())
             ? absl::OkStatus()
             : CheckExpectedIs(*options.expected_offset);
}

absl::Status Log::CheckExpectedIs(Offset expected) const {
  const Offset end = ReadTail(block()).end();
  if (expected == end) return absl::OkStatus();
  return Where(
      absl::AbortedError(absl::StrCat("the next offset is ", end, ", not the expected ", expected)),
      end);
}

// The frames between the two tails become records, all at once.
ABSL_ATTRIBUTE_ALWAYS_INLINE inline void Log::Publish(const Tail& old, const Tail& tail,
                                                      std::int64_t largest_timestamp,
                                                      std::int64_t now_ns) {
  ControlBlock& b = block();
  b.largest_timestamp.store(largest_timestamp, std::memory_order_relaxed);
  b.last_append_ns.store(now_ns, std::memory_order_relaxed);
  if (ABSL_PREDICT_FALSE(old.records == 0)) {
    b.first_append_ns.store(now_ns, std::memory_order_relaxed);
  }
  // Release: pairs with the acquire in ReadTail(); the frames are whole before they are
  // seen. One store: a batch is seen whole or not at all.
  b.tail.store(tail.Pack(), std::memory_order_release);
}

// Last, and rebuildable: an entry never names a frame that was not published.
ABSL_ATTRIBUTE_ALWAYS_INLINE inline void Log::IndexRecord(const Tail& at,
                                                          std::int64_t largest_before) {
  if (ABSL_PREDICT_FALSE(at.position >=
                         block().next_index_position.load(std::memory_order_relaxed))) {
    AddIndexEntry({at.records, at.position, at.records == 0 ? kNoTimestamp : largest_before});
  }
}

absl::Status Log::TooFarAhead(std::int64_t timestamp_ns) const {
  return Where(absl::InvalidArgumentError(absl::StrCat(
      name().topic, "-", name().partition, ": a timestamp of ",
      absl::FormatTime(absl::FromUnixNanos(timestamp_ns), absl::UTCTimeZone()),
      " is more than an hour ahead of the clock, and retention.clock=record goes by it")));
}

absl::StatusOr<Appended> Log::Append(const Record& record, const AppendOptions& options) {
  AppendCall call(options);
  return WithRoom(call, [&]() ABSL_ATTRIBUTE_ALWAYS_INLINE { return AppendOnce(record, call); });
}

absl::StatusOr<Appended> Log::AppendBatch(std::span<const Record> records,
                                          const AppendOptions& options) {
  AppendCall call(options);
  return WithRoom(call, [&] { return AppendBatchOnce(records, call); });
}

absl::Status Log::CheckFill(const Record& record) const {
  CORDWOOD_RETURN_IF_ERROR(context_->CheckWritable());
  if (InFill()) return InFillError();
  if (!record.value.get().has_value()) return CheckKey(record);
  return Where(
      absl::InvalidArgumentError("AppendInPlace: the value comes from fill, not from the record"));
}

absl::Status Log::FilledTooMuch(std::size_t written, std::size_t room) const {
  return Where(absl::InvalidArgumentError(
      absl::StrCat("AppendInPlace: fill says it wrote ", written, " bytes into ", room)));
}

absl::StatusOr<Appended> Log::AppendInPlace(
    std::size_t value_bytes, const Record& record,
    absl::FunctionRef<std::size_t(std::span<std::byte>)> fill, const AppendOptions& options) {
  if (value_bytes >= kFillInBufferBytes) {
    AppendCall call(options);
    return WithRoom(call, [&] { return AppendInPlaceOnce(value_bytes, record, fill, call); });
  }
  // Once, however often there has to be made room: what it takes its bytes from may be empty then.
  CORDWOOD_RETURN_IF_ERROR(CheckFill(record));
  alignas(8) std::byte buffer[kFillInBufferBytes];
  std::size_t written;
  {
    FillScope scope;
    written = fill(std::span<std::byte>(buffer, value_bytes));
  }
  if (written > value_bytes) return FilledTooMuch(written, value_bytes);
  Record filled = record;
  filled.value = std::string_view(reinterpret_cast<const char*>(buffer), written);
  return Append(filled, options);
}

ABSL_ATTRIBUTE_ALWAYS_INLINE inline absl::StatusOr<Appended> Log::AppendOnce(const Record& record,
                                                                             AppendCall& call) {
  CORDWOOD_RETURN_IF_ERROR(context_->CheckWritable());
  CORDWOOD_RETURN_IF_ERROR(CheckKey(record));
  segment::FramePlan plan;
  const std::uint64_t body = segment::PlanSizes(record, plan);
  if (ABSL_PREDICT_FALSE(body > config_.message_bytes_max)) return TooLarge(body);
  segment::HashBody(record, plan);
  // One clock read: the record's time, or only when it was appended.
  const bool append_time = config_.append_time;
  const bool own_time = record.timestamp.has_value() && !append_time;
  const std::int64_t now = own_time ? context_->clock.NowCoarse() : context_->clock.Now();
  const std::int64_t timestamp = TimestampOf(record, append_time, now);
  if (ABSL_PREDICT_FALSE(IsTooFarAhead(timestamp, now))) return TooFarAhead(timestamp);

  const AppendSample sample(*context_, plan.body_hash, now);
  Offset offset;
  {
    Turn turn(*this);
    CORDWOOD_RETURN_IF_ERROR(turn.Take(call));
    CORDWOOD_RETURN_IF_ERROR(CheckExpected(call.options()));
    if (absl::Status room = MakeRoom(plan.frame_bytes(), now); ABSL_PREDICT_FALSE(!room.ok())) {
      return Where(std::move(room));
    }
    ControlBlock& b = block();
    const Tail old = Tail::Unpack(b.tail.load(std::memory_order_relaxed));
    const Tail tail = {old.slot, old.records + 1, old.position + plan.frame_bytes()};
    offset = b.base[old.slot].load(std::memory_order_relaxed) + old.records;
    // Before the first byte: a dead writer's successor zeroes up to here (rule 5).
    b.intent.store(tail.Pack(), std::memory_order_release);
    segment::WriteFrame(writer_.segment->key(), writer_.data, plan,
                        {.position = old.position,
                         .offset = offset,
                         .timestamp_ns = timestamp,
                         .batch_remaining = 0,
                         .durable = b.durable.load(std::memory_order_relaxed)},
                        record);
    segment::PrefetchForWrite(writer_.data + tail.position + kPrefetchAhead, plan.frame_bytes());
    const std::int64_t largest = b.largest_timestamp.load(std::memory_order_relaxed);
    Publish(old, tail, std::max(largest, timestamp), now);
    IndexRecord(old, largest);
  }
  sample.Done(*context_);
  if (ABSL_PREDICT_FALSE(call.options().durability == Durability::kDurable)) {
    CORDWOOD_RETURN_IF_ERROR(FinishDurable(offset, offset + 1, call));
  }
  return Appended{offset, timestamp, append_time};
}

void Log::AddIndexEntry(const segment::IndexEntry& entry) {
  ControlBlock& b = block();
  segment::Index* index = writer_.segment->index();
  const std::uint64_t i = b.index_count.load(std::memory_order_relaxed);
  if (index != nullptr && index->Add(i, entry)) {
    b.index_count.store(i + 1, std::memory_order_relaxed);
  }
  b.next_index_position.store(
      entry.position + static_cast<std::uint64_t>(config_.index_interval_bytes),
      std::memory_order_relaxed);
}

absl::StatusOr<Appended> Log::AppendBatchOnce(std::span<const Record> records, AppendCall& call) {
  CORDWOOD_RETURN_IF_ERROR(context_->CheckWritable());
  const std::int64_t now = context_->clock.Now();
  const bool append_time = config_.append_time;  // the same for the whole batch
  struct Planned {
    segment::FramePlan plan;
    std::int64_t timestamp_ns;
  };
  absl::InlinedVector<Planned, 128> batch(records.size());
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < records.size(); ++i) {
    const Record& record = records[i];
    CORDWOOD_RETURN_IF_ERROR(CheckKey(record));
    const std::uint64_t body = segment::PlanSizes(record, batch[i].plan);
    if (ABSL_PREDICT_FALSE(body > config_.message_bytes_max)) return TooLarge(body);
    segment::HashBody(record, batch[i].plan);
    batch[i].timestamp_ns = TimestampOf(record, append_time, now);
    if (ABSL_PREDICT_FALSE(IsTooFarAhead(batch[i].timestamp_ns, now))) {
      return TooFarAhead(batch[i].timestamp_ns);
    }
    total += batch[i].plan.frame_bytes();
  }
  if (total > segment::kSegmentBytesMax - segment::kFirstFrame) {
    return Where(absl::InvalidArgumentError(
        absl::StrCat("a batch of ", total, " bytes does not fit a segment of 2 GiB; split it")));
  }

  const AppendSample sample(*context_, records.empty() ? 0 : batch[0].plan.body_hash, now,
                            records.size());
  Offset first;
  {
    Turn turn(*this);
    CORDWOOD_RETURN_IF_ERROR(turn.Take(call));
    CORDWOOD_RETURN_IF_ERROR(CheckExpected(call.options()));
    ControlBlock& b = block();
    if (records.empty()) return Appended{ReadTail(b).end(), now, append_time};
    if (absl::Status room = MakeRoom(total, now); !room.ok()) return Where(std::move(room));
    const Tail old = Tail::Unpack(b.tail.load(std::memory_order_relaxed));
    const Tail tail = {old.slot, old.records + static_cast<std::uint32_t>(records.size()),
                       old.position + total};
    first = b.base[old.slot].load(std::memory_order_relaxed) + old.records;
    b.intent.store(tail.Pack(), std::memory_order_release);
    const std::int64_t largest_before = b.largest_timestamp.load(std::memory_order_relaxed);
    std::int64_t largest = largest_before;
    segment::FramePlace place = {.position = old.position,
                                 .offset = first,
                                 .timestamp_ns = 0,
                                 .batch_remaining = static_cast<std::uint32_t>(records.size()),
                                 .durable = b.durable.load(std::memory_order_relaxed)};
    const segment::SegmentKey key = writer_.segment->key();
    std::byte* const data = writer_.data;
    for (std::size_t i = 0; i < records.size(); ++i) {
      const segment::FramePlan& plan = batch[i].plan;
      segment::PrefetchForWrite(data + place.position + kPrefetchAhead, plan.frame_bytes());
      place.timestamp_ns = batch[i].timestamp_ns;
      --place.batch_remaining;
      segment::WriteFrame(key, data, plan, place, records[i]);
      place.position += plan.frame_bytes();
      ++place.offset;
      largest = std::max(largest, place.timestamp_ns);
    }
    Publish(old, tail, largest, now);
    b.batches.store(b.batches.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    b.batch_records.store(b.batch_records.load(std::memory_order_relaxed) + records.size(),
                          std::memory_order_relaxed);
    if (tail.position > b.next_index_position.load(std::memory_order_relaxed)) {
      std::int64_t before = old.records == 0 ? kNoTimestamp : largest_before;
      std::uint64_t position = old.position;
      for (std::uint32_t i = 0; i < records.size(); ++i) {
        if (position >= b.next_index_position.load(std::memory_order_relaxed)) {
          AddIndexEntry({old.records + i, position, before});
        }
        position += batch[i].plan.frame_bytes();
        before = std::max(before, batch[i].timestamp_ns);
      }
    }
  }
  sample.Done(*context_);
  if (call.options().durability == Durability::kDurable) {
    CORDWOOD_RETURN_IF_ERROR(
        FinishDurable(first, first + static_cast<Offset>(records.size()), call));
  }
  return Appended{first, now, append_time};
}

absl::StatusOr<Appended> Log::AppendInPlaceOnce(
    std::size_t value_bytes, const Record& record,
    absl::FunctionRef<std::size_t(std::span<std::byte>)> fill, AppendCall& call) {
  CORDWOOD_RETURN_IF_ERROR(CheckFill(record));
  Record filled = record;
  // By itself first: near 2^64 the sum would wrap.
  if (value_bytes > config_.message_bytes_max) return TooLarge(value_bytes);
  segment::FramePlan plan;
  const std::uint64_t body = value_bytes + segment::PlanSizes(record, plan);
  if (body > config_.message_bytes_max) return TooLarge(body);
  const std::uint64_t frame_bytes_max = segment::FrameBytes(body);
  const std::int64_t now = context_->clock.Now();
  const bool append_time = config_.append_time;
  const std::int64_t timestamp = TimestampOf(record, append_time, now);
  if (IsTooFarAhead(timestamp, now)) return TooFarAhead(timestamp);
  Offset offset;
  {
    Turn turn(*this);
    CORDWOOD_RETURN_IF_ERROR(turn.Take(call));
    CORDWOOD_RETURN_IF_ERROR(CheckExpected(call.options()));
    if (absl::Status room = MakeRoom(frame_bytes_max, now); !room.ok()) {
      return Where(std::move(room));
    }
    ControlBlock& b = block();
    const Tail old = Tail::Unpack(b.tail.load(std::memory_order_relaxed));
    Tail tail = {old.slot, old.records + 1, old.position + frame_bytes_max};
    offset = b.base[old.slot].load(std::memory_order_relaxed) + old.records;
    b.intent.store(tail.Pack(), std::memory_order_release);
    std::byte* value = writer_.data + old.position + segment::kFrameHeaderBytes;
    std::size_t written;
    {
      FillScope scope;
      // If it throws, the turn ends, and there is no header: nothing was appended.
      written = fill(std::span<std::byte>(value, value_bytes));
    }
    if (written > value_bytes) return FilledTooMuch(written, value_bytes);
    filled.value = std::string_view(reinterpret_cast<const char*>(value), written);
    segment::PlanSizes(filled, plan);
    segment::PutTail(reinterpret_cast<char*>(value), filled, plan);
    plan.body_hash = os::Hash64(value, plan.body_bytes());
    segment::WriteFrameHeader(writer_.segment->key(), writer_.data, plan,
                              {.position = old.position,
                               .offset = offset,
                               .timestamp_ns = timestamp,
                               .batch_remaining = 0,
                               .durable = b.durable.load(std::memory_order_relaxed)});
    tail.position = old.position + plan.frame_bytes();
    const std::int64_t largest = b.largest_timestamp.load(std::memory_order_relaxed);
    Publish(old, tail, std::max(largest, timestamp), now);
    IndexRecord(old, largest);
  }
  if (call.options().durability == Durability::kDurable) {
    CORDWOOD_RETURN_IF_ERROR(FinishDurable(offset, offset + 1, call));
  }
  return Appended{offset, timestamp, append_time};
}

absl::Status Log::FinishDurable(Offset first, Offset end, AppendCall& call) {
  absl::Status status = FlushBy(end, call.deadline_ns());
  if (status.ok()) return status;
  // The record is visible: the offset says so, and a retry would repeat it (rule 18).
  absl::Status told(status.code(), absl::StrCat("published at offset ", first,
                                                ", but not made durable: ", status.message()));
  return cordwood::internal::At(std::move(told), name(), first);
}

}  // namespace cordwood::log
