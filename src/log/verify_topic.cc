#include <algorithm>
#include <array>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "cordwood/log/recovery.h"
#include "cordwood/log/start_file.h"
#include "cordwood/log/topic_files.h"
#include "log/repair.h"
#include "log/small_files.h"
#include "log/verify.h"

namespace cordwood::log {
namespace {

// Somebody may remove files of a partition, or write a slot, while it is looked at.
constexpr int kLooksMax = 10;

class TopicVerifier {
 public:
  TopicVerifier(const VerifyInput& input, const std::string& name, Findings& findings)
      : input_(input), context_(input.context), findings_(findings) {
    topic_.name = name;
  }

  VerifiedTopic Run() {
    absl::StatusOr<TopicIdentity> identity = TopicFiles::ReadConfig(*context_->root, topic_.name);
    if (!identity.ok() && !findings_.IsDamage(identity.status())) return std::move(topic_);
    if (!identity.ok()) {
      topic_.status = identity.status();
      Find(FindingKind::kConfig, identity.status(), "/config",
           "without it the topic cannot be opened");
      return std::move(topic_);
    }
    identity_ = *std::move(identity);
    const bool is_believed = OpenControl();
    const int partitions = identity_.config.partitions;
    std::vector<Watermarks> ends;
    std::vector<bool> has_end;
    for (int p = 0; p < partitions; ++p) {
      const absl::StatusOr<Watermarks> end =
          is_believed ? WatermarksOf((*control_)->block(p)) : FindEnd(p);
      if (!end.ok()) findings_.IsDamage(end.status());
      has_end.push_back(end.ok());
      ends.push_back(end.ok() ? *end : Watermarks{});
    }
    const std::shared_ptr<ControlFile> control =
        is_believed ? *control_ : ControlFile::MakePrivate(identity_.id, ends);
    for (int p = 0; p < partitions; ++p) {
      const auto i = static_cast<std::size_t>(p);
      PartitionInput input = {.files = Files(p), .is_open = input_.is_open};
      if (has_end[i]) {
        auto log = Log::Open(context_, input.files, LogConfig::Of(identity_.config), control, p);
        if (log.ok()) input.log = *std::move(log);
        findings_.trouble.Update(log.status());
      }
      const std::optional<Watermarks> known = Known(p);
      // A damaged page says too much, perhaps; the recovery has not believed more than there is.
      const bool is_known = known && control_.ok();
      input.durable = std::max(ends[i].durable, is_known ? known->durable : 0);
      input.start = known ? known->start : 0;
      LookAtStart(input.files);
      topic_.partitions.push_back(VerifyPartition(input, findings_));
    }
    return std::move(topic_);
  }

 private:
  segment::PartitionFiles Files(int partition) const {
    return PartitionFilesIn(*context_, TopicFolder(topic_.name), topic_.name, identity_, partition);
  }

  void Find(FindingKind kind, const absl::Status& why, const char* file, const char* costs) {
    findings_.all.push_back({.kind = kind,
                             .problem = {.state = absl::IsNotFound(why) ? VerifiedState::kMissing
                                                                        : VerifiedState::kDamaged,
                                         .file = TopicFolder(topic_.name) + file,
                                         .what = absl::StrCat(why.message(), "; ", costs)},
                             .where = {topic_.name, 0}});
  }

  // Whether what the control file says is what a Broker would go by, without a scan.
  bool OpenControl() {
    os::Folder& root = input_.is_open ? *input_.live_root : *context_->root;
    control_ = ControlFile::Open(root, TopicFolder(topic_.name) + "/control", identity_.id,
                                 os::Access::kRead);
    if (control_.ok() && (*control_)->partitions() != identity_.config.partitions) {
      // Partitions are in the config before they are in the page: who died, or lost the power, in
      // between has left it to the next Broker.
      const bool is_changing =
          (*control_)->partitions() < identity_.config.partitions ||
          (*control_)->header().config_version.load(std::memory_order_acquire) % 2 != 0;
      if (input_.is_open) {
        // Some are being added: whichever has more comes first.
        identity_.config.partitions =
            std::min(identity_.config.partitions, (*control_)->partitions());
      } else if (!is_changing) {
        Distrust("has another number of partitions than the config");
      }
    }
    if (control_.ok() && !input_.is_open) LookAtClosed(**control_);
    if (!control_.ok()) {
      if (!findings_.IsDamage(control_.status())) return false;
      Find(FindingKind::kControl, control_.status(), "/control",
           "the next Broker makes it anew from the records");
      return false;
    }
    const ControlFile& control = **control_;
    if (control.partitions() < identity_.config.partitions) return false;
    if (input_.is_open) return control.IsWorthTrying(context_->boot_id);
    const CleanEntry now = CleanEntry::Of(control);
    return std::find(input_.clean.begin(), input_.clean.end(), now) != input_.clean.end();
  }

  // Nobody had it open since, if it was closed. (A copy of the directory has other inodes.)
  void LookAtClosed(const ControlFile& control) {
    const CleanEntry now = CleanEntry::Of(control);
    const auto then =
        std::find_if(input_.clean.begin(), input_.clean.end(), [&](const CleanEntry& entry) {
          return entry.topic_id == now.topic_id && entry.inode == now.inode &&
                 entry.device == now.device;
        });
    const bool is_closed = then != input_.clean.end();
    if (is_closed && then->watermarks != now.watermarks) {
      Distrust("says something else than when it was closed");
    } else if (is_closed && IsMarkedDeleted(control)) {
      // No topic that was deleted is closed well.
      Distrust("says that the topic was deleted, which it was not");
    } else if (IsMarkedDeleted(control)) {
      findings_.all.push_back(
          {.kind = FindingKind::kControl,
           .problem = {.state = VerifiedState::kTorn,
                       .file = TopicFolder(topic_.name) + "/control",
                       .what = "says that the topic was deleted; the next Broker removes what is "
                               "left of it"},
           .where = {topic_.name, 0}});
    }
  }

  void Distrust(const char* why) {
    damaged_ = *control_;
    control_ = absl::DataLossError(why);
  }

  static bool IsMarkedDeleted(const ControlFile& control) {
    for (int i = 0; i < control.partitions(); ++i) {
      if (control.block(i).state.load(std::memory_order_relaxed) ==
          static_cast<std::uint32_t>(PartitionState::kDeleted)) {
        return true;
      }
    }
    return false;
  }

  std::optional<Watermarks> Known(int partition) const {
    const bool is_damaged = damaged_ != nullptr;
    if (!control_.ok() && !is_damaged) return std::nullopt;
    const ControlFile& page = is_damaged ? *damaged_ : **control_;
    if (partition >= page.partitions()) return std::nullopt;
    return is_damaged ? DurableOnly(page.block(partition)) : WatermarksOf(page.block(partition));
  }

  absl::StatusOr<Watermarks> FindEnd(int partition) {
    RecoveryInput input;
    input.files = Files(partition);
    input.segment_bytes = LogConfig::Of(identity_.config).segment_bytes;
    input.read_only = true;
    input.control = Known(partition);
    if (input.control && control_.ok()) {
      input.worth_trying = (*control_)->IsWorthTrying(context_->boot_id);
      // What a writer that was killed had not published is not there.
      input.written_to = WrittenTo((*control_)->block(partition));
    }
    absl::StatusOr<RecoveredPartition> recovered = RecoverPartition(*context_, input);
    for (int n = 1; absl::IsNotFound(recovered.status()) && n < kLooksMax; ++n) {
      recovered = RecoverPartition(*context_, input);
    }
    if (!recovered.ok()) return recovered.status();
    if (input.worth_trying && !recovered->believed && !input_.is_open) {
      findings_.all.push_back(
          {.kind = FindingKind::kControl,
           .problem = {.state = VerifiedState::kTorn,
                       .file = TopicFolder(topic_.name) + "/control",
                       .what = absl::StrCat("of partition ", partition,
                                            " it says what the records "
                                            "do not; the next Broker goes by the records")},
           .where = {topic_.name, partition}});
    }
    return recovered->watermarks;
  }

  void LookAtStart(const segment::PartitionFiles& files) {
    const std::string path = files.Path("start");
    std::string why;
    for (int n = 0; n < kLooksMax; ++n) {
      const auto bytes = ReadSmallFile(*context_->root, path, 1 << 20);
      if (absl::IsNotFound(bytes.status())) return;
      if (!bytes.ok() && !findings_.IsDamage(bytes.status())) return;
      why = bytes.ok() ? WrongSlot(*bytes, files) : std::string(bytes.status().message());
      if (why.empty()) return;
    }
    findings_.all.push_back({.kind = FindingKind::kStart,
                             .problem = {.state = VerifiedState::kDamaged,
                                         .file = path,
                                         .what = absl::StrCat(why, "; the log may seem to start ",
                                                              "earlier than it does")},
                             .where = {topic_.name, static_cast<int>(files.partition)}});
  }

  // Empty: each slot is whole, or was never written.
  static std::string WrongSlot(const std::string& bytes, const segment::PartitionFiles& files) {
    std::array<segment::StartSlot, 2> slots = {};
    if (bytes.size() < sizeof slots) return "it is shorter than two slots";
    std::memcpy(slots.data(), bytes.data(), sizeof slots);
    constexpr char kNothing[sizeof slots[0]] = {};
    bool has_one = false;
    for (std::size_t i = 0; i < slots.size(); ++i) {
      if (segment::IsValid(slots[i]) && slots[i].topic_id == files.topic_id) {
        has_one = true;
      } else if (std::memcmp(&slots[i], kNothing, sizeof kNothing) != 0) {
        return absl::StrCat("slot ", i, " does not hold");
      }
    }
    return has_one ? "" : "neither slot was ever written";
  }

  const VerifyInput& input_;
  const std::shared_ptr<const Context> context_;
  Findings& findings_;
  TopicIdentity identity_;
  absl::StatusOr<std::shared_ptr<ControlFile>> control_ = absl::UnknownError("not opened");
  std::shared_ptr<ControlFile> damaged_;  // one that was opened, and is not believed
  VerifiedTopic topic_;
};

}  // namespace

VerifiedTopic VerifyTopic(const VerifyInput& input, const std::string& name, Findings& findings) {
  return TopicVerifier(input, name, findings).Run();
}

}  // namespace cordwood::log
