#include "tool/session.h"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cordwood/status_macros.h"
#include "tool/terminal.h"

namespace cordwood::tool {
namespace {

absl::Status WithAdvice(const absl::Status& status, std::string_view advice) {
  return absl::Status(status.code(), absl::StrCat(status.message(), "\n  ", std::string(advice)));
}

absl::StatusOr<Broker> Open(const Session& session, const BrokerOptions& options) {
  CORDWOOD_RETURN_IF_ERROR(CheckDirectory(session));
  absl::StatusOr<Broker> broker = Broker::Open(session.directory, options);
  // Where something else is, none can be made.
  std::error_code error;
  const bool can_be_made = !std::filesystem::exists(session.directory, error) ||
                           std::filesystem::is_empty(session.directory, error);
  if (absl::IsNotFound(broker.status()) && can_be_made) {
    return WithAdvice(broker.status(), absl::StrCat("`cordwood --dir ", session.directory,
                                                    " topics create NAME` makes one."));
  }
  return broker;
}

// How many letters have to be put in, taken out or changed.
std::size_t Distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, changed});
    }
  }
  return row[b.size()];
}

// What an input or a record says may be quoted in it: nothing there moves the terminal's cursor.
std::string Printable(std::string_view text) {
  std::string printable;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    // U+0080 to U+009F are controls, too.
    const auto next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0;
    const bool is_c1 = c == 0xc2 && next >= 0x80 && next < 0xa0;
    if ((c < 0x20 && c != '\n') || c == 0x7f || is_c1) {
      absl::StrAppend(&printable, "\\x", absl::Hex(is_c1 ? next : c, absl::kZeroPad2));
      i += is_c1 ? 1 : 0;
    } else {
      printable += text[i];
    }
  }
  return printable;
}

}  // namespace

Style Session::style() const { return Style(WantsColours(colour, 1)); }

void Session::Note(std::string_view text) const {
  Output err(2);
  err.Write(absl::StrCat("cordwood: ", Printable(text), "\n"));
  err.Flush().IgnoreError();  // there is nowhere else to say it
}

absl::Status Session::Answer(internal::JsonWriter json_text) {
  return Answer(std::move(json_text).Take() + "\n");
}

absl::Status Session::Answer(std::string_view text) {
  out.Write(text);
  return out.Flush();
}

absl::Status CheckDirectory(const Session& session) {
  if (!session.directory.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "which directory?\n  Name it with --dir, or in the environment as CORDWOOD_DIR.");
}

absl::StatusOr<Broker> OpenToRead(const Session& session) {
  return Open(session,
              {.create_if_missing = false, .read_only = true, .background_threads = false});
}

absl::StatusOr<Broker> OpenToWrite(const Session& session, bool create_if_missing) {
  return Open(session, {.create_if_missing = create_if_missing});
}

std::string Nearest(std::string_view name, const std::vector<std::string>& names) {
  std::string nearest;
  // Of which most is the same: any name of one letter is like any other.
  std::size_t least = std::min(name.size() / 3 + 2, name.size());
  for (const std::string& candidate : names) {
    const std::size_t distance = Distance(name, candidate);
    if (distance < least) {
      least = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

absl::StatusOr<Topic> FindTopic(const Broker& broker, std::string_view name) {
  absl::StatusOr<Topic> topic = broker.OpenTopic(name);
  if (!absl::IsNotFound(topic.status())) return topic;
  const std::string nearest = Nearest(name, broker.TopicNames());
  return WithAdvice(topic.status(), nearest.empty()
                                        ? "`cordwood topics` lists those that there are."
                                        : absl::StrCat("Did you mean ", nearest,
                                                       "? `cordwood topics` lists them all."));
}

absl::StatusOr<Partition> FindPartition(const Topic& topic, int partition) {
  if (partition >= 0 && partition < topic.partition_count()) return topic.partition(partition);
  return absl::NotFoundError(absl::StrCat("topic ", std::string(topic.name()), " has no partition ",
                                          partition, "\n  It has ", topic.partition_count(),
                                          ", from 0 to ", topic.partition_count() - 1, "."));
}

absl::StatusOr<GroupDescription> FindGroup(const Broker& broker, std::string_view name) {
  absl::StatusOr<GroupDescription> group = broker.DescribeGroup(name);
  if (!absl::IsNotFound(group.status())) return group;
  const std::vector<std::string> names = broker.ListGroups();
  return WithAdvice(group.status(), names.empty()
                                        ? std::string("There are no groups yet.")
                                        : absl::StrCat("There are: ", absl::StrJoin(names, ", ")));
}

void WriteTime(internal::JsonWriter& json, absl::Time time) {
  if (time == absl::InfinitePast()) {
    json.Null();
  } else {
    json.String(ExactTimeText(time));
  }
}

}  // namespace cordwood::tool
