// Sends records of an input in batches, counts them, and says at which line something went wrong
// and how much was sent.
//
//   Sender sender(producer, "orders", total_bytes);
//   if (IsWrong(line)) return sender.Refuse(why, line_number);   // what came before is sent
//   CORDWOOD_RETURN_IF_ERROR(sender.Add({.value = line}, line_number));   // points at it only
//   CORDWOOD_RETURN_IF_ERROR(sender.Send());             // before what was added goes away
//
// Thread safety: one thread at a time.

#ifndef CORDWOOD_TOOL_SENDER_H_
#define CORDWOOD_TOOL_SENDER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cordwood/producer.h"
#include "tool/session.h"
#include "tool/terminal.h"

namespace cordwood::tool {

class Sender {
 public:
  Sender(Producer producer, const std::string& topic, std::int64_t total_bytes);

  // Sends what was added before once there is much of it. Line 0: the input has none.
  absl::Status Add(const Record& record, std::int64_t line);
  // An error names the first line that was not sent, and says what else was.
  absl::Status Send();
  // Sends what was added before, and returns "line 7 of the input: no JSON: ...".
  absl::Status Refuse(const absl::Status& status, std::int64_t line);
  // Of an input that a signal has cut short: sends what was added, and says how much that is.
  absl::Status Stopped();
  // Sends the rest, with `durable` makes it all so, and says how many there were.
  absl::Status Finish(Session& session, bool durable);
  void set_input_bytes(std::int64_t bytes) { input_bytes_ = bytes; }

 private:
  static constexpr std::size_t kBatch = 1000;

  const Producer producer_;
  const std::string topic_;
  const absl::Time begun_;
  Progress progress_;
  std::vector<Record> batch_;
  std::vector<std::int64_t> lines_;
  std::int64_t input_bytes_ = 0;
  std::int64_t records_ = 0, bytes_ = 0;
};

// Standard input, or the files one after the other: `use` gets each one's descriptor.
absl::Status ForEachInput(const std::vector<std::string>& files,
                          absl::FunctionRef<absl::Status(int fd)> use);
// The bytes of all of them; -1: not known, as of a pipe.
std::int64_t InputBytes(const std::vector<std::string>& files);

}  // namespace cordwood::tool

#endif  // CORDWOOD_TOOL_SENDER_H_
