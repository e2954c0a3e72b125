#include "tool/sender.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cordwood/status_macros.h"

namespace cordwood::tool {
namespace {

// What is wrong with the input is no mistake in the arguments.
absl::Status AtLine(const absl::Status& status, std::int64_t line, std::string_view advice) {
  return absl::Status(absl::IsInvalidArgument(status) ? absl::StatusCode::kDataLoss : status.code(),
                      absl::StrCat(line == 0 ? "" : absl::StrCat("line ", line, " of the input: "),
                                   status.message(), "\n  ", std::string(advice)));
}

std::string Records(std::int64_t number) {
  return absl::StrCat(Count(number), number == 1 ? " record" : " records");
}

}  // namespace

Sender::Sender(Producer producer, const std::string& topic, std::int64_t total_bytes)
    : producer_(std::move(producer)),
      topic_(topic),
      begun_(absl::Now()),
      progress_(topic, total_bytes) {}

absl::Status Sender::Add(const Record& record, std::int64_t line) {
  batch_.push_back(record);
  lines_.push_back(line);
  return batch_.size() < kBatch ? absl::OkStatus() : Send();
}

absl::Status Sender::Send() {
  if (batch_.empty()) return absl::OkStatus();
  const auto results = producer_.SendBatch(topic_, batch_);
  const auto count = [&](std::size_t i) {
    ++records_;
    bytes_ += static_cast<std::int64_t>(batch_[i].value.get().value_or("").size());
  };
  std::vector<std::size_t> failed;
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (results[i].ok()) {
      count(i);
    } else {
      failed.push_back(i);
    }
  }
  // A batch is all or nothing in each partition: one record that is too large has cost all the
  // others there. By themselves they go, up to that one.
  absl::Status why;
  std::size_t first = 0;
  for (const std::size_t i : failed) {
    why = results[i].status();
    first = i;
    if (absl::IsInvalidArgument(why)) why = producer_.Send(topic_, batch_[i]).status();
    if (!why.ok()) break;
    count(i);
  }
  progress_.Show(records_, std::max(input_bytes_, bytes_));
  if (!why.ok()) {
    std::int64_t behind = 0;
    for (std::size_t i = first + 1; i < results.size(); ++i) behind += results[i].ok() ? 1 : 0;
    why = AtLine(why, lines_[first],
                 behind == 0 ? absl::StrCat("Sent before it: ", Records(records_), ".")
                             : absl::StrCat("Sent: ", Records(records_), ", of which ", behind,
                                            " come behind it in the input."));
  }
  batch_.clear();
  lines_.clear();
  return why;
}

absl::Status Sender::Refuse(const absl::Status& status, std::int64_t line) {
  CORDWOOD_RETURN_IF_ERROR(Send());
  return AtLine(status, line,
                absl::StrCat("Sent before it: ", Records(records_), "; go on with this line."));
}

absl::Status Sender::Stopped() {
  CORDWOOD_RETURN_IF_ERROR(Send());
  return absl::AbortedError(
      absl::StrCat("stopped before the end of the input\n  Sent: ", Records(records_), "."));
}

absl::Status Sender::Finish(Session& session, bool durable) {
  CORDWOOD_RETURN_IF_ERROR(Send());
  if (durable) CORDWOOD_RETURN_IF_ERROR(producer_.Flush());
  progress_.Clear();
  const absl::Duration took = absl::Now() - begun_;
  if (session.json) {
    internal::JsonWriter json;
    json.BeginObject().Key("topic").String(topic_).Key("records").Number(records_);
    json.Key("bytes").Number(bytes_).Key("seconds").Number(absl::ToDoubleSeconds(took));
    json.EndObject();
    return session.Answer(std::move(json));
  }
  if (progress_.is_visible()) {
    const double seconds = std::max(absl::ToDoubleSeconds(took), 1e-6);
    session.Note(absl::StrCat(Records(records_), " into ", topic_, ", ", BytesText(bytes_), ", ",
                              RateText(static_cast<double>(records_) / seconds)));
  }
  return absl::OkStatus();
}

absl::Status ForEachInput(const std::vector<std::string>& files,
                          absl::FunctionRef<absl::Status(int fd)> use) {
  if (files.empty()) return use(0);
  for (const std::string& file : files) {
    if (IsStopped()) return absl::OkStatus();
    if (file == "-") {
      CORDWOOD_RETURN_IF_ERROR(use(0));
      continue;
    }
    const int fd = open(file.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return absl::NotFoundError(absl::StrCat(file, ": ", strerror(errno)));
    const absl::Status used = use(fd);
    close(fd);
    if (!used.ok()) return absl::Status(used.code(), absl::StrCat(file, ": ", used.message()));
  }
  return absl::OkStatus();
}

std::int64_t InputBytes(const std::vector<std::string>& files) {
  std::int64_t bytes = 0;
  const auto add = [&](bool known, const struct stat& info) {
    const bool is_file = known && S_ISREG(info.st_mode);
    bytes = is_file && bytes >= 0 ? bytes + info.st_size : -1;
  };
  struct stat info = {};
  if (files.empty()) add(fstat(0, &info) == 0, info);
  for (const std::string& file : files) {
    add((file == "-" ? fstat(0, &info) : stat(file.c_str(), &info)) == 0, info);
  }
  return bytes;
}

}  // namespace cordwood::tool
