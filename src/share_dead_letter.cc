// Dead letters: what was given up goes to the dead-letter topic before it is archived.
//
// A process may be killed at any step, and the record is in that topic once all the same:
//
//   1. the record's word says that it dies       killed here, the next one goes on at 2
//   2. where the letters begin is stored         killed here, the next one looks for letters
//   3. the letters are appended                  from there on, and writes those that are
//   4. they are made durable                     not there
//   5. the words say archived
//
// The look is for the headers of the letter, under the share file's lock, which excludes all
// others who could write it. After a power cut between 4 and 5 it is written again: 2 and the
// letters need not have reached the disk together.

#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "cordwood/status.h"
#include "cordwood/status_macros.h"
#include "share_consumer_state.h"

namespace cordwood::internal {
namespace {

constexpr std::string_view kTopic = "cordwood.dlq.topic";
constexpr std::string_view kPartition = "cordwood.dlq.partition";
constexpr std::string_view kOffset = "cordwood.dlq.offset";
constexpr std::string_view kGroup = "cordwood.dlq.group";
constexpr std::string_view kDeliveryCount = "cordwood.dlq.delivery_count";
constexpr std::string_view kReason = "cordwood.dlq.reason";
constexpr std::string_view kOmitted = "cordwood.dlq.omitted";

}  // namespace

absl::Status ShareConsumerState::Bury(const SharePartition& partition, group::ShareTurn& turn,
                                      absl::Duration timeout) const {
  const absl::Time deadline = absl::Now() + timeout;
  std::vector<std::pair<Offset, group::ShareWord>> dying;
  for (Offset o = turn.start(); o < turn.start() + group::kShareSlots; ++o) {
    const group::ShareWord word = turn.Look(o);
    if (group::IsDying(word.state)) dying.emplace_back(o, word);
  }
  if (dying.empty()) return absl::OkStatus();
  absl::Status lost;
  if (!options_.dead_letter_topic.empty()) {
    const absl::StatusOr<std::shared_ptr<log::TopicFiles>> opened =
        broker_->directory().OpenTopic(options_.dead_letter_topic);
    if (absl::IsNotFound(opened.status())) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the dead-letter topic ", options_.dead_letter_topic, " was deleted; make it again"));
    }
    if (!opened.ok()) return opened.status();
    const std::shared_ptr<log::TopicFiles>& topic = *opened;
    CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<log::Log> letters,
                              topic->OpenLog(partition.number % topic->partitions()));
    const std::optional<Offset> from = turn.letters_from();
    absl::flat_hash_set<Offset> written;
    if (from && *from <= letters->end_offset()) {
      CORDWOOD_ASSIGN_OR_RETURN(written, LettersWritten(partition, letters, *from));
    } else {
      turn.SetLettersFrom(letters->end_offset());
    }
    log::Cursor cursor(partition.log, 0, options_.verify_checksums);
    for (const auto& [offset, word] : dying) {
      if (written.contains(offset)) continue;
      CORDWOOD_ASSIGN_OR_RETURN(const std::optional<RecordView> record, ReadAt(cursor, offset));
      // What retention, a trim or damage has taken cannot be told of.
      if (!record) continue;
      const absl::Status sent = WriteLetter(partition, *record, word, *letters, deadline);
      // Told once: a topic that takes not even the headers must not hold up the others for ever.
      if (absl::IsInvalidArgument(sent)) {
        lost.Update(
            At(absl::DataLossError(absl::StrCat("offset ", offset,
                                                " was given up without a dead letter, which is too "
                                                "large for topic ",
                                                options_.dead_letter_topic)),
               partition.log->name(), offset));
        continue;
      }
      CORDWOOD_RETURN_IF_ERROR(sent);
    }
    CORDWOOD_RETURN_IF_ERROR(letters->FlushTo(letters->end_offset(), deadline - absl::Now()));
  }
  for (const auto& [offset, word] : dying) {
    turn.Set(offset, group::ShareState::kArchived, word.deliveries);
  }
  turn.SetLettersFrom(std::nullopt);
  return lost;
}

absl::Status ShareConsumerState::WriteLetter(const SharePartition& partition,
                                             const RecordView& record, group::ShareWord word,
                                             log::Log& letters, absl::Time deadline) const {
  const std::string number = absl::StrCat(partition.number);
  const std::string offset = absl::StrCat(record.offset());
  const std::string deliveries = absl::StrCat(word.deliveries);
  std::vector<Header> ours = {
      {kTopic, partition.log->name().topic},
      {kPartition, number},
      {kOffset, offset},
      {kGroup, options_.group},
      {kDeliveryCount, deliveries},
      {kReason, word.state == group::ShareState::kRejected ? "rejected" : "delivery limit reached"},
  };
  std::vector<Header> headers;
  for (const Header& header : record.headers()) headers.push_back(header);
  headers.insert(headers.end(), ours.begin(), ours.end());
  Record letter = record.ToRecord();
  letter.headers = headers;
  const absl::Status written = letters.Append(letter, {.timeout = deadline - absl::Now()}).status();
  if (!absl::IsInvalidArgument(written)) return written;
  // Larger than the topic takes: it must not hold up the records after it for ever.
  const std::string why(written.message());
  ours.push_back({kOmitted, why});
  return letters
      .Append({.headers = ours, .timestamp = record.timestamp()},
              {.timeout = deadline - absl::Now()})
      .status();
}

absl::StatusOr<absl::flat_hash_set<Offset>> ShareConsumerState::LettersWritten(
    const SharePartition& partition, const std::shared_ptr<log::Log>& log, Offset from) const {
  const std::string number = absl::StrCat(partition.number);
  absl::flat_hash_set<Offset> written;
  log::Cursor cursor(log, from);
  segment::CheckedFrame frame;
  for (;;) {
    const log::Cursor::Step step = cursor.Next(frame);
    if (step == log::Cursor::Step::kError) return cursor.status();
    if (step == log::Cursor::Step::kEnd) return written;
    if (step == log::Cursor::Step::kGap) continue;
    const RecordView letter = cursor.View(frame);
    const HeadersView headers = letter.headers();
    Offset offset;
    const std::optional<std::string_view> text = headers.Last(kOffset);
    if (headers.Last(kTopic) == partition.log->name().topic && headers.Last(kPartition) == number &&
        headers.Last(kGroup) == options_.group && text &&
        absl::SimpleAtoi(absl::string_view(text->data(), text->size()), &offset)) {
      written.insert(offset);
    }
  }
}

}  // namespace cordwood::internal
