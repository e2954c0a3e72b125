// The parser and the tables of examples/access_log.cc.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "examples/access_log_parser.h"
#include "examples/access_log_report.h"
#include "tests/catch.h"

namespace access_log {
namespace {

constexpr std::string_view kGoodLine =
    "uplherc.upl.com - - [01/Aug/1995:00:00:07 -0400] \"GET / HTTP/1.0\" 304 0";

std::string LineWithTime(const std::string& time) {
  return "host - - [" + time + "] \"GET / HTTP/1.0\" 200 1";
}
std::string LineWithRequest(const std::string& request) {
  return "host - - [01/Aug/1995:00:00:07 -0400] \"" + request + "\" 200 1";
}
std::string TimeOf(const std::string& time) {
  const absl::StatusOr<AccessLogLine> line = ParseAccessLogLine(LineWithTime(time));
  if (!line.ok()) return std::string(line.status().message());
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", line->time, absl::UTCTimeZone());
}
std::string WhyNot(std::string_view line) {
  const absl::StatusOr<AccessLogLine> parsed = ParseAccessLogLine(line);
  if (parsed.ok()) return "it parses";
  if (parsed.status().code() != absl::StatusCode::kInvalidArgument) return "another code";
  return std::string(parsed.status().message());
}

}  // namespace

TEST_CASE("Access log: a line gives its host, its time and its request") {
  const absl::StatusOr<AccessLogLine> line = ParseAccessLogLine(kGoodLine);
  REQUIRE(line.ok());
  CHECK(line->host == "uplherc.upl.com");
  CHECK(line->request == "GET / HTTP/1.0");
  CHECK(line->utc_offset == -absl::Hours(4));
  CHECK(absl::ToUnixSeconds(line->time) == 807'249'607);  // 1995-08-01T04:00:07Z
}

TEST_CASE("Access log: what a line gives points into the line") {
  const std::string_view line = kGoodLine;
  const AccessLogLine parsed = ParseAccessLogLine(line).value();
  CHECK(parsed.host.data() == line.data());
  CHECK(parsed.request.data() == line.data() + line.find("GET"));
}

TEST_CASE("Access log: a time is read in the zone that it names") {
  CHECK(TimeOf("01/Aug/1995:00:00:07 -0400") == "1995-08-01 04:00:07");
  CHECK(TimeOf("01/Aug/1995:00:00:07 +0000") == "1995-08-01 00:00:07");
  CHECK(TimeOf("01/Jan/2000:01:00:00 +0530") == "1999-12-31 19:30:00");
  CHECK(TimeOf("29/Feb/2024:23:59:59 +0000") == "2024-02-29 23:59:59");
  CHECK(TimeOf("31/Dec/1969:23:59:59 +0000") == "1969-12-31 23:59:59");
}

TEST_CASE("Access log: a time that no clock shows is refused") {
  const std::string time = GENERATE(
      "30/Feb/1995:00:00:00 -0400", "29/Feb/1995:00:00:00 -0400", "00/Aug/1995:00:00:00 -0400",
      "32/Aug/1995:00:00:00 -0400", "01/Aug/1995:24:00:00 -0400", "01/Aug/1995:00:60:00 -0400",
      "01/Aug/1995:00:00:61 -0400", "01/aug/1995:00:00:00 -0400", "01/Agu/1995:00:00:00 -0400",
      "01/08/1995:00:00:00 -0400", "1/Aug/1995:00:00:00 -0400", "01/Aug/95:00:00:00 -0400",
      "-1/Aug/1995:00:00:00 -0400", "+1/Aug/1995:00:00:00 -0400", " 1/Aug/1995:00:00:00 -0400",
      "01/Aug/1995:00:00:00  0400", "01/Aug/1995:00:00:00 -0460", "01/Aug/1995:00:00:00 -1500",
      "01/Aug/1995:00:00:00 EDT", "01/Aug/1995:00:00:00", "");
  CAPTURE(time);
  CHECK(TimeOf(time) == "the time is not like [01/Aug/1995:00:00:07 -0400]");
}

TEST_CASE("Access log: a request may hold quotation marks, brackets, anything but its own end") {
  const std::string request =
      GENERATE("GET /a.html\"><IMG SRC=\"b.gif/ HTTP/1.0", "GET / \" HTTP/1.0", "GET /[x] HTTP/1.0",
               "GET /] \"x HTTP/1.0", "GET / 200 1", "\" \"", "-", "", "\x16\x03\x01");
  CAPTURE(request);
  const std::string text = LineWithRequest(request);  // the parts of the line point into it
  const absl::StatusOr<AccessLogLine> line = ParseAccessLogLine(text);
  REQUIRE(line.ok());
  CHECK(line->request == request);
}

TEST_CASE("Access log: fields after the status are not looked at") {
  const std::string end = GENERATE("", " -", " 1839", " 1839 \"http://a/\" \"Mozilla/5.0 (X11)\"");
  const std::string line = "h - - [01/Aug/1995:00:00:07 -0400] \"GET / HTTP/1.0\" 200" + end;
  CAPTURE(line);
  REQUIRE(ParseAccessLogLine(line).ok());
  CHECK(ParseAccessLogLine(line)->request == "GET / HTTP/1.0");
  CHECK(ParseAccessLogLine(line + "\r")->request == "GET / HTTP/1.0");
}

TEST_CASE("Access log: the name of a user may hold spaces") {
  const absl::StatusOr<AccessLogLine> line = ParseAccessLogLine(
      "::1 - Ada Lovelace [01/Aug/1995:00:00:07 -0400] \"GET / HTTP/1.0\" 200 1");
  REQUIRE(line.ok());
  CHECK(line->host == "::1");
}

TEST_CASE("Access log: a line that does not parse says why") {
  CHECK(WhyNot("") == "empty");
  CHECK(WhyNot("\r") == "empty");
  CHECK(WhyNot("hello") == "no host at its start");
  CHECK(WhyNot(" - - [01/Aug/1995:00:00:07 -0400] \"GET /\" 200 1") == "no host at its start");
  CHECK(WhyNot("host - - \"GET /\" 200 1") == "no [time] before a \"request\"");
  CHECK(WhyNot("host - - [01/Aug/1995:00:00:07 -0400] GET / 200 1") ==
        "no [time] before a \"request\"");
  CHECK(WhyNot("host - - [01/Aug/1995:00:00:07 -0400] \"GET /\" ok 1") ==
        "no status of three digits after the \"request\"");
  CHECK(WhyNot("host - - [01/Aug/1995:00:00:07 -0400] \"GET /\" 2000 1") ==
        "no status of three digits after the \"request\"");
  CHECK(WhyNot(LineWithRequest(std::string(kLineBytesMax, 'x'))) == "longer than 64 KiB");
}

TEST_CASE("Access log: a line that is cut anywhere before its status does not parse") {
  const std::size_t end_of_status = kGoodLine.find(" 304") + 4;
  for (std::size_t size = 0; size < kGoodLine.size(); ++size) {
    CAPTURE(size);
    CHECK(ParseAccessLogLine(kGoodLine.substr(0, size)).ok() == (size >= end_of_status));
  }
}

TEST_CASE("Access log: any one byte of a line may be any byte") {
  for (std::size_t at = 0; at < kGoodLine.size(); ++at) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string line(kGoodLine);
      line[at] = static_cast<char>(byte);
      const absl::StatusOr<AccessLogLine> parsed = ParseAccessLogLine(line);
      if (!parsed.ok()) continue;
      // Whatever it is taken for, it is a part of the line.
      if (parsed->host.empty() || line.find(parsed->request) == std::string::npos) {
        FAIL("byte " << byte << " at " << at);
      }
    }
  }
}

TEST_CASE("Access log: all 40,000 lines of the example's file parse, in order of time") {
  const std::filesystem::path root = CORDWOOD_SOURCE_FOLDER;
  std::ifstream in(root / "examples" / "data" / "nasa_http_aug95_40k.log");
  REQUIRE(in);
  std::string line;
  std::int64_t lines = 0;
  absl::Time latest = absl::InfinitePast();
  while (std::getline(in, line)) {
    const absl::StatusOr<AccessLogLine> parsed = ParseAccessLogLine(line);
    ++lines;
    if (!parsed.ok() || parsed->time < latest) FAIL("line " << lines << ": " << line);
    latest = parsed->time;
  }
  CHECK(lines == 40'000);
  CHECK(absl::FormatTime(absl::RFC3339_sec, latest, absl::UTCTimeZone()) ==
        "1995-08-03T16:39:35+00:00");
}

TEST_CASE("Access log: numbers have commas between their thousands") {
  CHECK(WithCommas(0) == "0");
  CHECK(WithCommas(999) == "999");
  CHECK(WithCommas(1'000) == "1,000");
  CHECK(WithCommas(123'456) == "123,456");
  CHECK(WithCommas(1'234'567) == "1,234,567");
  CHECK(WithCommas(-1'234) == "-1,234");
  CHECK(WithCommas(-123) == "-123");
}

TEST_CASE("Access log: what is printed of a request cannot steer the terminal") {
  CHECK(Printable("GET /", 10) == "GET /");
  CHECK(Printable("a\x1b[2Jb\n\xff", 10) == "a?[2Jb??");
  CHECK(Printable("0123456789", 10) == "0123456789");
  CHECK(Printable("0123456789a", 10) == "0123456...");
}

TEST_CASE("Access log: a table's columns are as wide as they must be") {
  Table table({{"day", Table::Align::kLeft}, {"requests"}});
  table.AddRow({"1995-08-01", "33,996"});
  table.AddRow({"b", "0"});
  CHECK(table.ToString() ==
        "  day         requests\n"
        "  1995-08-01    33,996\n"
        "  b                  0\n");
}

}  // namespace access_log
