#include "cordwood/record.h"

#include <iterator>
#include <limits>
#include <memory>
#include <ranges>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "tests/catch.h"

namespace cordwood::record_test {
namespace {

using internal::BatchBuilder;
using internal::PartitionName;
using internal::RecordParts;

static_assert(std::input_iterator<HeadersView::iterator>);
static_assert(std::input_iterator<RecordBatch::iterator>);
static_assert(std::ranges::input_range<HeadersView>);
static_assert(std::ranges::input_range<RecordBatch>);
static_assert(std::is_trivially_copyable_v<RecordView> && std::is_trivially_copyable_v<Record>);
static_assert(!std::is_copy_constructible_v<RecordBatch>);
static_assert(std::is_nothrow_move_constructible_v<RecordBatch>);

void AppendU32(std::string& out, std::uint32_t number) {
  for (int i = 0; i < 4; ++i) out += static_cast<char>(number >> (8 * i) & 0xFF);
}

// The entries of a headers section.
std::string Entries(const HeaderList& headers) {
  std::string out;
  headers.ForEach([&](const Header& header) {
    const auto value = header.value.get();
    AppendU32(out, static_cast<std::uint32_t>(header.key.size()));
    AppendU32(out, value ? static_cast<std::uint32_t>(value->size()) : internal::kNoHeaderValue);
    out.append(header.key).append(value.value_or(""));
  });
  return out;
}

HeadersView ViewOf(const std::string& entries) {
  return HeadersView(entries.data(), entries.size());
}

// A record in a file, without the file.
class Stored {
 public:
  explicit Stored(const Record& record, Offset offset = 7) {
    const auto value = record.value.get(), key = record.key.get();
    body_.append(value.value_or("")).append(key.value_or(""));
    if (const std::string entries = Entries(record.headers); !entries.empty()) {
      parts_.headers_bytes = static_cast<std::uint32_t>(entries.size() + 4);
      AppendU32(body_, parts_.headers_bytes);
      body_ += entries;
    }
    parts_.value_bytes = static_cast<std::uint32_t>(value.value_or("").size());
    parts_.key_bytes = static_cast<std::uint32_t>(key.value_or("").size());
    parts_.flags = (key ? RecordParts::kHasKey : 0) | (value ? RecordParts::kHasValue : 0);
    parts_.offset = offset;
    parts_.timestamp_ns = 1'700'000'000'000'000'001;
    parts_.where = &where_;
  }
  Stored(const Stored&) = delete;
  Stored& operator=(const Stored&) = delete;

  RecordView view() {
    parts_.body = body_.data();
    return RecordView(parts_);
  }
  void Overwrite() { body_.assign(body_.size(), '#'); }

 private:
  std::string body_ = {};
  RecordParts parts_ = {};
  PartitionName where_ = {"orders", 3};
};

std::string Walk(const HeaderList& headers) {
  std::string text;
  headers.ForEach([&](const Header& header) {
    text.append(header.key).append("=").append(header.value.get().value_or("none")).append(";");
  });
  return text;
}

// --- What goes in ---------------------------------------------------------------------------

TEST_CASE("Bytes: nullptr and {} are none, an empty string is not") {
  CHECK_FALSE(Bytes().get().has_value());
  CHECK_FALSE(Bytes(nullptr).get().has_value());
  CHECK_FALSE(Bytes(static_cast<const char*>(nullptr)).get().has_value());
  CHECK_FALSE(Bytes(std::nullopt).get().has_value());
  CHECK(Bytes("").get() == "");
  CHECK(Bytes(std::string_view("a\0b", 3)).get()->size() == 3);
}

TEST_CASE(
    "HeaderList: is made from braces, a vector, a span and what came in, and walks the same") {
  const std::vector<Header> vector = {{"unit", "celsius"}, {"trace"}};
  const std::string entries = Entries(vector);
  CHECK(Walk({{"unit", "celsius"}, {"trace", nullptr}}) == "unit=celsius;trace=none;");
  CHECK(Walk(vector) == "unit=celsius;trace=none;");
  CHECK(Walk(std::span<const Header>(vector)) == "unit=celsius;trace=none;");
  CHECK(Walk(ViewOf(entries)) == "unit=celsius;trace=none;");
}

TEST_CASE("HeaderList: only what came in has encoded bytes to copy") {
  const std::vector<Header> vector = {{"unit", "celsius"}};
  const std::string entries = Entries(vector);
  CHECK_FALSE(HeaderList(vector).encoded().has_value());
  CHECK(HeaderList(ViewOf(entries)).encoded() == entries);
}

TEST_CASE("HeaderList: knows when it is empty") {
  const std::vector<Header> vector = {{"unit", "celsius"}};
  CHECK(HeaderList().empty());
  CHECK(HeaderList(HeadersView()).empty());
  CHECK_FALSE(HeaderList(vector).empty());
  CHECK_FALSE(HeaderList(ViewOf(Entries(vector))).empty());
}

// --- Headers that come in -------------------------------------------------------------------

TEST_CASE("HeadersView: walks every header in order, names may repeat") {
  const std::string entries = Entries({{"a", "1"}, {"", ""}, {"a", "2"}});
  CHECK(ViewOf(entries).size() == 3);
  CHECK_FALSE(ViewOf(entries).empty());
  CHECK(Walk(ViewOf(entries)) == "a=1;=;a=2;");
  CHECK(ViewOf(entries).encoded() == entries);
}

TEST_CASE("HeadersView: Last gives the last of a name, and none for a null value") {
  const std::string entries = Entries({{"a", "1"}, {"b", "x"}, {"a", "2"}, {"b", nullptr}});
  CHECK(ViewOf(entries).Last("a") == "2");
  CHECK_FALSE(ViewOf(entries).Last("b").has_value());
  CHECK_FALSE(ViewOf(entries).Last("c").has_value());
}

TEST_CASE("HeadersView: without bytes there is nothing to walk") {
  CHECK(HeadersView().empty());
  CHECK(HeadersView().size() == 0);
  CHECK_FALSE(HeadersView().Last("a").has_value());
}

TEST_CASE("HeadersView: cut at any byte it gives the whole headers before the cut") {
  const std::string entries = Entries({{"a", "1"}, {"bc", nullptr}, {"d", "23"}});
  const std::vector<std::size_t> ends = {10, 20, 31};
  for (std::size_t cut = 0; cut <= entries.size(); ++cut) {
    CAPTURE(cut);
    // Memory of exactly this size, so that AddressSanitizer sees a read past it.
    const std::vector<char> bytes(entries.begin(), entries.begin() + static_cast<long>(cut));
    std::size_t whole = 0;
    for (const std::size_t end : ends) whole += end <= cut;
    CHECK(HeadersView(bytes.data(), bytes.size()).size() == whole);
  }
}

TEST_CASE("HeadersView: with any bit flipped it reads nothing outside") {
  const std::string entries = Entries({{"a", "1"}, {"bc", nullptr}, {"d", "23"}});
  for (std::size_t bit = 0; bit < entries.size() * 8; ++bit) {
    CAPTURE(bit);
    std::vector<char> bytes(entries.begin(), entries.end());
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ 1 << bit % 8);
    std::size_t total = 0;
    for (const Header& header : HeadersView(bytes.data(), bytes.size())) {
      total += header.key.size() + header.value.get().value_or("").size();
    }
    CHECK(total <= bytes.size());
  }
}

TEST_CASE("HeadersView: sizes near 2 to the 32 do not wrap") {
  const std::uint32_t key_bytes = GENERATE(0xFFFFFFFFu, 0xFFFFFFF0u, 1u);
  const std::uint32_t value_bytes = GENERATE(0xFFFFFFFEu, 0xFFFFFFF8u);
  std::string entries;
  AppendU32(entries, key_bytes);
  AppendU32(entries, value_bytes);
  entries += "0123456789";
  CHECK(ViewOf(entries).empty());
}

// --- A record that was read -----------------------------------------------------------------

TEST_CASE("RecordView: gives what was stored") {
  Stored stored({.key = "alice", .value = "book", .headers = {{"unit", "one"}}});
  const RecordView record = stored.view();
  CHECK(record.key() == "alice");
  CHECK(record.value() == "book");
  CHECK(record.headers().Last("unit") == "one");
  CHECK(record.offset() == 7);
  CHECK(record.timestamp() == absl::FromUnixNanos(1'700'000'000'000'000'001));
  CHECK(record.topic() == "orders");
  CHECK(record.partition() == 3);
}

TEST_CASE("RecordView: none and empty are two things") {
  Stored empty({.key = "", .value = ""}), none(Record{});
  CHECK(empty.view().key() == "");
  CHECK(empty.view().value() == "");
  CHECK_FALSE(empty.view().is_tombstone());
  CHECK_FALSE(none.view().key().has_value());
  CHECK_FALSE(none.view().value().has_value());
  CHECK(none.view().is_tombstone());
}

TEST_CASE("RecordView: made from nothing it is of nowhere and has nothing") {
  const RecordView record;
  CHECK(record.topic().empty());
  CHECK(record.partition() == 0);
  CHECK_FALSE(record.key().has_value());
  CHECK(record.headers().empty());
  CHECK_FALSE(record.Copy().value().has_value());
}

TEST_CASE("RecordView: ToRecord keeps all but the partition") {
  Stored stored({.key = "alice", .value = "book", .headers = {{"unit", "one"}}});
  const RecordView view = stored.view();
  const Record record = view.ToRecord();
  CHECK(record.key.get() == "alice");
  CHECK(record.value.get() == "book");
  CHECK(Walk(record.headers) == "unit=one;");
  CHECK(record.timestamp == view.timestamp());
  CHECK_FALSE(record.partition.has_value());
}

TEST_CASE("OwnedRecord: keeps its bytes when those that it was copied from are gone") {
  Stored stored({.key = "alice", .value = "book", .headers = {{"unit", "one"}}});
  const OwnedRecord record = stored.view().Copy();
  stored.Overwrite();
  CHECK(record.key() == "alice");
  CHECK(record.value() == "book");
  CHECK(record.headers().Last("unit") == "one");
  CHECK(record.topic() == "orders");
  CHECK(record.partition() == 3);
  CHECK(record.ToRecord().key.get() == "alice");
}

TEST_CASE("OwnedRecord: moving keeps what its accessors gave, and leaves an empty one") {
  Stored stored({.key = "alice", .value = "book"});
  OwnedRecord from = stored.view().Copy();
  const std::string_view key = *from.key();
  const OwnedRecord to = std::move(from);
  CHECK(to.key()->data() == key.data());
  CHECK_FALSE(from.key().has_value());  // NOLINT: that it can be asked is the test
  CHECK(from.topic().empty());
}

TEST_CASE("OwnedRecord: a copy has bytes of its own") {
  Stored stored({.key = "alice", .value = nullptr});
  OwnedRecord one = stored.view().Copy();
  OwnedRecord two;
  two = one;
  CHECK(two.key() == "alice");
  CHECK(two.key()->data() != one.key()->data());
  CHECK(two.topic() == "orders");
  CHECK(two.is_tombstone());
}

// --- Batches --------------------------------------------------------------------------------

const PartitionName kFirst = {"orders", 0}, kSecond = {"orders", 1};

RecordView At(const PartitionName& where, Offset offset) {
  return RecordView({.offset = offset, .where = &where});
}

// Offsets 0 to count - 1 of two partitions.
void Fill(RecordBatch& batch, Offset count) {
  BatchBuilder builder(batch);
  builder.Clear();
  for (const PartitionName* where : {&kFirst, &kSecond}) {
    builder.BeginPartition(where);
    for (Offset offset = 0; offset < count; ++offset) builder.Add(At(*where, offset));
    builder.EndPartition(count);
  }
  builder.Finish();
}

TEST_CASE("RecordBatch: is a range of all records, and of each partition's") {
  RecordBatch batch;
  Fill(batch, 1000);  // the vector grew many times on the way
  CHECK(batch.size() == 2000);
  REQUIRE(batch.partitions().size() == 2);
  const PartitionRecords& second = batch.partitions()[1];
  CHECK(second.topic() == "orders");
  CHECK(second.partition() == 1);
  CHECK(second.next_offset() == 1000);
  CHECK(second.size() == 1000);
  Offset expected = 0;
  for (const RecordView& record : second) {
    if (record.partition() != 1 || record.offset() != expected++) FAIL(record.offset());
  }
}

TEST_CASE("RecordBatch: moving keeps the views, and leaves an empty batch") {
  RecordBatch from;
  Fill(from, 3);
  const RecordView* first = &*from.begin();
  RecordBatch to = std::move(from);
  CHECK(&*to.begin() == first);
  CHECK(&*to.partitions()[0].begin() == first);
  CHECK(from.empty());  // NOLINT: that it can be asked is the test
  CHECK(from.begin() == from.end());
  CHECK(from.partitions().empty());
}

TEST_CASE("RecordBatch: may hold gaps and no record") {
  RecordBatch batch;
  BatchBuilder builder(batch);
  builder.BeginPartition(&kFirst);
  builder.AddGap({.topic = "orders", .from = 2, .to = 5, .reason = GapReason::kDamage});
  builder.EndPartition(5);
  builder.Finish();
  CHECK(batch.empty());
  CHECK(batch.partitions().empty());
  REQUIRE(batch.gaps().size() == 1);
  CHECK(batch.gaps()[0] == Gap{"orders", 0, 2, 5, GapReason::kDamage});
}

TEST_CASE("RecordBatch: filled again it uses its memory again") {
  RecordBatch batch;
  Fill(batch, 100);
  const RecordView* first = &*batch.begin();
  Fill(batch, 100);
  CHECK(&*batch.begin() == first);
  CHECK(batch.size() == 200);
  CHECK(batch.partitions().size() == 2);
}

TEST_CASE("RecordBatch: keeps what its views point at until it is cleared, assigned to or dies") {
  auto map = std::make_shared<int>(1);
  const std::weak_ptr<int> alive = map;
  auto batch = std::make_unique<RecordBatch>();
  BatchBuilder(*batch).Pin(std::move(map));
  RecordBatch moved = std::move(*batch);
  batch.reset();
  CHECK_FALSE(alive.expired());
  const int how = GENERATE(0, 1);
  if (how == 0) BatchBuilder(moved).Clear();
  if (how == 1) moved = RecordBatch();
  CHECK(alive.expired());
}

TEST_CASE("RecordBatch: its range is empty until the builder has finished") {
  RecordBatch batch;
  BatchBuilder builder(batch);
  builder.BeginPartition(&kFirst);
  builder.Add(At(kFirst, 0));
  CHECK(builder.size() == 1);
  CHECK(batch.empty());
  builder.EndPartition(1);
  builder.Finish();
  CHECK(batch.size() == 1);
}

// --- Small things ---------------------------------------------------------------------------

TEST_CASE("Times: nanoseconds and back, beyond their limits they are infinite") {
  using Limits = std::numeric_limits<std::int64_t>;
  const absl::Time time = absl::FromUnixNanos(-1'700'000'000'000'000'001);
  CHECK(internal::NanosToTime(internal::TimeToNanos(time)) == time);
  CHECK(internal::TimeToNanos(absl::InfinitePast()) == Limits::min());
  CHECK(internal::TimeToNanos(absl::InfiniteFuture()) == Limits::max());
  CHECK(internal::TimeToNanos(absl::FromUnixSeconds(Limits::max() / 2)) == Limits::max());
  CHECK(internal::TimeToNanos(absl::FromUnixSeconds(Limits::min() / 2)) == Limits::min());
  CHECK(internal::NanosToTime(Limits::min()) == absl::InfinitePast());
  CHECK(internal::NanosToTime(Limits::max()) == absl::InfiniteFuture());
}

TEST_CASE("TopicPartition: is ordered by topic, then by partition") {
  CHECK(TopicPartition{"a", 2} < TopicPartition{"b", 0});
  CHECK(TopicPartition{"a", 2} < TopicPartition{"a", 10});
  CHECK(TopicPartition{"a", 2} == TopicPartition{"a", 2});
}

}  // namespace
}  // namespace cordwood::record_test
