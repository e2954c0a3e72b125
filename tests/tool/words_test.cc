// What the program reads and writes, piece by piece: JSON, CSV, formats, places, tables.

#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cordwood/broker.h"
#include "json_writer.h"
#include "tests/catch.h"
#include "tests/support/broker_fixture.h"
#include "tests/support/says.h"
#include "tool/json_reader.h"
#include "tool/output.h"
#include "tool/place.h"
#include "tool/record_filter.h"
#include "tool/record_format.h"
#include "tool/record_input.h"
#include "tool/session.h"

namespace cordwood::tool {
namespace {

using internal::JsonWriter;
using testing::Says;

// A record as a reader of a log sees it.
class Read {
 public:
  explicit Read(const Record& record) {
    Topic topic = broker_.CreateTopic("t").value();
    REQUIRE(topic.partition(0).Append(record).ok());
    PartitionReader reader = topic.partition(0).Read(0).value();
    reader_ = std::make_unique<PartitionReader>(std::move(reader));
    it_ = reader_->begin();
  }
  const RecordView& view() const { return *it_; }
  std::string As(std::string_view format) const {
    std::string out;
    RecordFormat::Parse(format).value().Append(view(), out);
    return out;
  }

 private:
  testing::TempDir dir_;
  Broker broker_ = testing::OpenQuiet(dir_ / "data");
  std::unique_ptr<PartitionReader> reader_;
  PartitionReader::iterator it_;
};

std::string Json(const Read& record) {
  std::string out;
  AppendJsonRecord(record.view(), out);
  return out;
}
std::string Csv(const Read& record) {
  std::string out;
  AppendCsvRecord(record.view(), out);
  return out;
}

// What comes back of a record that was written as JSON, or as CSV.
InputRecord BackFromCsv(const std::string& text) {
  CsvReader names, fields;
  REQUIRE(names.Add(kCsvHeader.substr(0, kCsvHeader.size() - 1)).value());
  std::string_view left = text;
  for (bool is_whole = false; !is_whole;) {
    const std::size_t end = left.find('\n');
    REQUIRE(end != std::string_view::npos);
    is_whole = fields.Add(left.substr(0, end)).value();
    left.remove_prefix(end + 1);
  }
  CHECK(left.empty());
  return ParseCsvRecord(names.fields(), fields.fields()).value();
}

const std::string kNotUtf8 = std::string("a\xff\0\r\n\",b", 8);
const absl::Time kTime = absl::FromUnixNanos(1'700'000'000'123'456'789);

}  // namespace

// ---- JSON

TEST_CASE("JSON: what was written is read back") {
  JsonWriter json;
  json.BeginObject().Key("a\"\n\x01").String("x\\\t\xc3\xa9").Key("n").Number(std::int64_t{-5});
  json.Key("list").BeginArray().Bool(true).Null().Number(0.5).EndArray().EndObject();
  const std::string text = json.text();
  const JsonValue value = ParseJson(text).value();
  REQUIRE(value.members.size() == 3);
  CHECK(value.members[0].first == "a\"\n\x01");
  CHECK(value.members[0].second.text == "x\\\t\xc3\xa9");
  CHECK(value.Find("n")->raw == "-5");
  REQUIRE(value.Find("list")->items.size() == 3);
  CHECK(value.Find("list")->raw == "[true,null,0.5]");
}

TEST_CASE("JSON: with lines for people it says the same") {
  JsonWriter json(true);
  json.BeginObject().Key("a").BeginArray().Number(std::int64_t{1}).EndArray();
  json.Key("b").BeginObject().EndObject().EndObject();
  CHECK(json.text() == "{\n  \"a\": [\n    1\n  ],\n  \"b\": {}\n}");
}

TEST_CASE("JSON: escapes, surrogates and other letters") {
  CHECK(ParseJson(R"("\u00e9\ud83d\ude00\/\b")").value().text == "\xc3\xa9\xf0\x9f\x98\x80/\b");
}

TEST_CASE("JSON: every cut of a document is refused, and names a byte") {
  const std::string text = R"({"a": [1.5e-3, "x\u00e9", {"b": null}], "c": false})";
  REQUIRE(ParseJson(text).ok());
  for (std::size_t cut = 0; cut < text.size(); ++cut) {
    CAPTURE(cut);
    CHECK(Says(ParseJson(text.substr(0, cut)).status(), "at byte"));
  }
}

TEST_CASE("JSON: what is none is refused") {
  for (const char* text :
       {"", "{", "nul", "01", "1.", "1e", "\"\\x\"", "\"\n\"", "\"\\ud800\"", "\"\\udc00\"",
        "{\"a\" 1}", "{a: 1}", "[1,]", "{\"a\":1,}", "1 2", "-", "+1", "'a'"}) {
    CAPTURE(text);
    CHECK(absl::IsInvalidArgument(ParseJson(text).status()));
  }
}

TEST_CASE("JSON: a text that is nested without end costs no stack") {
  CHECK(Says(ParseJson(std::string(1'000'000, '[')).status(), "nested"));
  CHECK(ParseJson(std::string(100, '[') + std::string(100, ']')).ok());
}

TEST_CASE("JSON: what is no UTF-8 is found") {
  CHECK(internal::IsUtf8("a\xc3\xa9\xf0\x9f\x98\x80"));
  for (const char* bad : {"\x80", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80",
                          "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xc3", "\xe2\x82", "\xff"}) {
    CAPTURE(bad);
    CHECK(!internal::IsUtf8(bad));
  }
}

// ---- Records

TEST_CASE("Records: a format says all of a record") {
  const Read record(
      {.key = "k", .value = "va", .headers = {{"a", "1"}, {"b", nullptr}}, .timestamp = kTime});
  CHECK(record.As("%t-%p:%o %k=%s (%K, %S) %T %h%%\\n") ==
        "t-0:0 k=va (1, 2) 1700000000123 a=1,b=%\n");
  CHECK(record.As("%R\\x41\\0") == std::string("\0\0\0\x02"
                                               "A\0",
                                               6));
}

TEST_CASE("Records: a format of a tombstone without a key says so") {
  const Read record({.headers = {}});
  CHECK(record.As("[%k|%s|%K|%S]") == "[||-1|-1]");
  CHECK(record.As("%R") == "\xff\xff\xff\xff");
}

TEST_CASE("Records: a format that means nothing is refused, by its letter") {
  CHECK(Says(RecordFormat::Parse("%z").status(), "%z"));
  CHECK(Says(RecordFormat::Parse("100%").status(), "\"%\""));
  CHECK(Says(RecordFormat::Parse("\\q").status(), "\\q"));
  CHECK(Says(RecordFormat::Parse("\\").status(), "\\"));
  CHECK(!RecordFormat::Parse("\\xZZ").ok());
}

TEST_CASE("Records: JSON and CSV give back every byte, and none where there is none") {
  for (const std::optional<std::string>& bytes :
       std::vector<std::optional<std::string>>{std::nullopt, "", "plain", kNotUtf8, "\"", "a,b"}) {
    const Bytes given = bytes ? Bytes(*bytes) : Bytes();
    const Read record(
        {.key = given, .value = given, .headers = {{"h", given}, {"h", "2"}}, .timestamp = kTime});
    for (const InputRecord& back :
         {ParseJsonRecord(Json(record)).value(), BackFromCsv(Csv(record))}) {
      CHECK(back.key == bytes);
      CHECK(back.value == bytes);
      CHECK(back.timestamp == kTime);
      CHECK(back.partition == 0);
      REQUIRE(back.headers.size() == 2);
      CHECK(back.headers[0] == std::pair<std::string, std::optional<std::string>>("h", bytes));
      CHECK(back.headers[1].second == "2");
    }
  }
}

TEST_CASE("Records: a JSON value that is no string is taken as it is written") {
  const InputRecord record =
      ParseJsonRecord(R"({"value": {"n": [1, 2]}, "headers": {"a": "b"}, "timestamp": 1700000000})")
          .value();
  CHECK(record.value == R"({"n": [1, 2]})");
  CHECK(!record.key);
  CHECK(record.headers[0].first == "a");
  CHECK(record.timestamp == absl::FromUnixSeconds(1'700'000'000));
}

TEST_CASE("Records: a number is a time in the unit that makes sense") {
  for (const char* number :
       {"1700000000", "1700000000000", "1700000000000000", "1700000000000000000"}) {
    const std::string line = std::string("{\"at\": ") + number + "}";
    CHECK(TimeInJson(line, "at").value() == absl::FromUnixSeconds(1'700'000'000));
  }
  for (const char* beyond :
       {"1e300", "-1e300", "\"infinite-future\"", "\"1677-09-21\"", "\"2262-04-12\""}) {
    CAPTURE(beyond);
    CHECK(Says(TimeInJson(std::string("{\"at\": ") + beyond + "}", "at").status(), "1677 to 2262"));
  }
  CHECK(Says(TimeInJson("{}", "at").status(), "no field \"at\""));
  CHECK(Says(TimeInJson("[]", "at").status(), "no JSON object"));
}

TEST_CASE("Records: CSV with another number of fields, or a quote in the wrong place, is refused") {
  CHECK(!CsvReader().Add("\"a\"b").ok());
  CsvReader csv;
  CHECK(!csv.Add("1,\"a\r").value());  // it goes on in the next line
  CHECK(csv.is_within());
  CHECK(!csv.Add("").value());
  REQUIRE(csv.Add("\"\"b\",2").value());
  CHECK(csv.fields() == CsvFields{"1", "a\r\n\n\"b", "2"});
  REQUIRE(csv.Add("a,\"\",\r").value());
  CHECK(csv.fields() == CsvFields{"a", "", std::nullopt});
  CHECK(!ParseCsvRecord({"key", "value"}, {"a"}).ok());
}

TEST_CASE("Records: a filter takes those that meet all that it says") {
  const Read record(
      {.key = "k", .value = std::string_view("a\0b 404", 7), .headers = {{"h", "1"}}});
  const auto matches = [&](FilterOptions options) {
    return RecordFilter::Make(options).value().Matches(record.view());
  };
  CHECK(matches({}));
  CHECK(matches({.key = "k", .headers = {"h", "h=1"}, .pattern = "b +[0-9]{3}$"}));
  CHECK(!matches({.key = "K"}));
  CHECK(!matches({.headers = {"h=2"}}));
  CHECK(!matches({.headers = {"i"}}));
  CHECK(!matches({.pattern = "405"}));
  CHECK(Says(RecordFilter::Make({.pattern = "("}).status(), "no regular expression"));
}

// ---- Places and numbers

TEST_CASE("Places: start, end, offsets, times and ages") {
  const absl::Time now = absl::FromUnixSeconds(1'000'000);
  const auto at = [&](std::string_view text) { return ParsePlace(text, now).value(); };
  CHECK(at("start") == Place{});
  CHECK(at("end").kind == Place::Kind::kEnd);
  CHECK(at("17") == Place{.kind = Place::Kind::kOffset, .number = 17});
  CHECK(at("-5") == Place{.kind = Place::Kind::kBeforeEnd, .number = 5});
  // As far as there are numbers.
  CHECK(at("-9223372036854775808").number == std::numeric_limits<std::int64_t>::max());
  CHECK(at("10m").time == now - absl::Minutes(10));
  CHECK(at("3d").time == now - absl::Hours(72));
  CHECK(at("2026-11-22").time == absl::FromUnixSeconds(1'795'305'600));
  CHECK(at("2026-11-22T01:00:00+01:00").time == at("2026-11-22").time);
  CHECK(at("2026-11-22T00:00:00Z").time == at("2026-11-22").time);
  for (const char* bad : {"", "soon", "2026-13-01", "10 parsecs", "1.5", "--1"}) {
    CAPTURE(bad);
    CHECK(absl::IsInvalidArgument(ParsePlace(bad, now).status()));
  }
}

TEST_CASE("Numbers: as people read them") {
  CHECK(Count(0) == "0");
  CHECK(Count(-1234567) == "-1,234,567");
  CHECK(BytesText(1023) == "1023 B");
  CHECK(BytesText(1536) == "1.5 KiB");
  CHECK(DurationText(absl::Milliseconds(20)) == "20 ms");
  CHECK(DurationText(absl::Seconds(3'725)) == "1 h 2 m");
  CHECK(DurationText(absl::Hours(50)) == "2 d 2 h");
  CHECK(TimeText(absl::UnixEpoch()) == "1970-01-01T00:00:00.000Z");
  CHECK(ExactTimeText(absl::InfiniteFuture()) == "2262-04-11T23:47:16.854775807Z");
}

TEST_CASE("Names: the nearest one is offered, and no other") {
  CHECK(Nearest("ordres", {"orders", "users"}) == "orders");
  CHECK(Nearest("zebra", {"orders", "users"}).empty());
  CHECK(Nearest("b", {"a"}).empty());
}

}  // namespace cordwood::tool
