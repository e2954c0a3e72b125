// How records are written: by a format like kcat's -f, as a line of JSON, or of CSV.
//
//   RecordFormat format = RecordFormat::Parse("%t-%p %o: %s\n").value();
//   format.Append(record, out);
//
//   %s value       %S its bytes, -1 for none    %R the same, 4 bytes, big-endian
//   %k key         %K its bytes, -1 for none
//   %T timestamp, milliseconds since 1970       %h headers, key=value,key=value
//   %t topic       %p partition                 %o offset      %% a percent sign
//   \n \r \t \\ \0 \xNN
//
// Thread safety: functions of values; a RecordFormat does not change.

#ifndef CORDWOOD_TOOL_RECORD_FORMAT_H_
#define CORDWOOD_TOOL_RECORD_FORMAT_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "cordwood/record.h"

namespace cordwood::tool {

class RecordFormat {
 public:
  // kInvalidArgument names the letter that is unknown.
  static absl::StatusOr<RecordFormat> Parse(std::string_view format);
  void Append(const RecordView& record, std::string& out) const;

 private:
  struct Part {
    char letter = 0;  // 0: the text
    std::string text = {};
  };
  std::vector<Part> parts_;
};

// {"topic":"t","partition":0,"offset":5,"timestamp":"...","key":"k","value":"v",
//  "headers":[{"key":"a","value":"b"}]}
// Bytes that are no UTF-8 are in "key_base64" and "value_base64" instead; none is null. Ends with a
// new line.
void AppendJsonRecord(const RecordView& record, std::string& out);
// The list alone.
void AppendJsonHeaders(const RecordView& record, std::string& out);

// RFC 4180; none is nothing at all, and no bytes are "". Headers are as in JSON.
inline constexpr std::string_view kCsvHeader = "partition,offset,timestamp,key,value,headers\n";
void AppendCsvRecord(const RecordView& record, std::string& out);

}  // namespace cordwood::tool

#endif  // CORDWOOD_TOOL_RECORD_FORMAT_H_
