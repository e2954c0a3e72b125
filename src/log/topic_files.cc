#include "cordwood/log/topic_files.h"

#include <algorithm>
#include <map>
#include <optional>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "cordwood/log/recovery.h"
#include "cordwood/status_macros.h"
#include "log/clean_marker.h"
#include "log/small_files.h"

namespace cordwood::log {
namespace {

constexpr char kIdProperty[] = "topic.id";
constexpr std::uint64_t kConfigBytesMax = 1 << 20;
// How often a read-only opener looks through a partition that is being changed meanwhile.
constexpr int kScansMax = 10;

std::optional<os::Bits128> IdOfHex(absl::string_view hex) {
  os::Bits128 id = {};
  if (hex.size() != 2 * id.size()) return std::nullopt;
  for (std::size_t i = 0; i < hex.size(); ++i) {
    const char c = hex[i];
    int digit = 0;
    if (c >= '0' && c <= '9') {
      digit = c - '0';
    } else if (c >= 'a' && c <= 'f') {
      digit = c - 'a' + 10;
    } else {
      return std::nullopt;
    }
    id[i / 2] = static_cast<std::uint8_t>(id[i / 2] << 4 | digit);
  }
  return id;
}

absl::Status BadLine(std::string_view path, int line, absl::string_view what) {
  return absl::DataLossError(absl::StrCat(ToAbsl(path), ", line ", line, ": ", what));
}

}  // namespace

std::string HexOf(const os::Bits128& id) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (const std::uint8_t byte : id) {
    hex.push_back(kDigits[byte >> 4]);
    hex.push_back(kDigits[byte & 15]);
  }
  return hex;
}

std::string TopicFolder(std::string_view topic) { return absl::StrCat("topics/", ToAbsl(topic)); }

std::string FormatTopicConfig(const TopicIdentity& topic) {
  std::string text = absl::StrCat(kIdProperty, "=", HexOf(topic.id), "\n");
  for (const auto& [name, value] : topic.config.ToProperties()) {
    absl::StrAppend(&text, name, "=", value, "\n");
  }
  return text;
}

absl::StatusOr<TopicIdentity> ParseTopicConfig(std::string_view text, std::string_view path) {
  if (text.empty() || text.back() != '\n') {
    return absl::DataLossError(
        absl::StrCat(ToAbsl(path), ": the last line has no end; the file was cut off"));
  }
  text.remove_suffix(1);
  TopicIdentity topic;
  std::map<std::string, std::string> properties;
  std::map<std::string, int> lines;  // of each property, for messages
  int line = 0;
  for (const absl::string_view row : absl::StrSplit(ToAbsl(text), '\n')) {
    ++line;
    const std::size_t equals = row.find('=');
    if (equals == absl::string_view::npos || equals == 0) {
      return BadLine(path, line, absl::StrCat("\"", absl::CHexEscape(row), "\" is not name=value"));
    }
    const std::string name(row.substr(0, equals));
    const absl::string_view value = row.substr(equals + 1);
    if (line == 1) {
      const std::optional<os::Bits128> id = IdOfHex(value);
      if (name != kIdProperty || !id) {
        return BadLine(path, line, "not \"topic.id=\" and 32 hexadecimal digits");
      }
      topic.id = *id;
    } else if (!properties.emplace(name, value).second) {
      return BadLine(path, line,
                     absl::StrCat("\"", absl::CHexEscape(name), "\" for the second time"));
    } else {
      lines.emplace(name, line);
    }
  }
  absl::StatusOr<TopicConfig> config = TopicConfig::FromProperties(properties);
  if (config.ok()) {
    topic.config = *std::move(config);
    return topic;
  }
  // The line that is bad by itself; settings that do not go together have none.
  for (const auto& [name, value] : properties) {
    if (TopicConfig::FromProperties({{name, value}}).status().message() ==
        config.status().message()) {
      return BadLine(path, lines[name], config.status().message());
    }
  }
  return absl::DataLossError(absl::StrCat(ToAbsl(path), ": ", config.status().message()));
}

absl::StatusOr<TopicConfig> AlteredConfig(const TopicConfig& config,
                                          const std::map<std::string, std::string>& properties) {
  const auto for_ever = [](absl::string_view name, absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": cannot be altered: ", why));
  };
  std::map<std::string, std::string> all = config.ToProperties();
  for (const auto& [name, value] : properties) {
    if (name == kIdProperty) return for_ever(name, "it is what tells this topic from all others");
    all[name] = value;
  }
  CORDWOOD_ASSIGN_OR_RETURN(TopicConfig next, TopicConfig::FromProperties(all));
  if (next.partitions != config.partitions) {
    return for_ever("partitions", "CreatePartitions adds some, and says what it does to keys");
  }
  if (next.partitioner != config.partitioner) {
    return for_ever("partitioner", "keys would go to other partitions than before");
  }
  if (next.index_interval_bytes != config.index_interval_bytes) {
    return for_ever("index.interval.bytes", "the indexes that are there were made for it");
  }
  return next;
}

segment::PartitionFiles PartitionFilesIn(const Context& context, std::string_view folder,
                                         std::string_view topic, const TopicIdentity& identity,
                                         int partition) {
  return {.root = context.root,
          .folder = absl::StrCat(ToAbsl(folder), "/", partition),
          .topic_id = identity.id,
          .partition = static_cast<std::uint32_t>(partition),
          .index_interval_bytes = identity.config.index_interval_bytes,
          .name = std::make_shared<const cordwood::internal::PartitionName>(
              cordwood::internal::PartitionName{std::string(topic), partition})};
}

absl::StatusOr<TopicIdentity> TopicFiles::ReadConfig(os::Folder& root, std::string_view name) {
  const std::string path = TopicFolder(name) + "/config";
  CORDWOOD_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(root, path, kConfigBytesMax));
  return ParseTopicConfig(text, absl::StrCat(root.path(), "/", path));
}

TopicFiles::TopicFiles(std::shared_ptr<const Context> context, std::string_view name,
                       TopicIdentity identity, std::shared_ptr<ControlFile> control)
    : context_(std::move(context)),
      name_(name),
      identity_(std::move(identity)),
      control_(std::move(control)),
      header_(&control_->header()),
      first_block_(&control_->block(0)),
      config_(identity_.config),
      // Was read before the version is: it is known to be of that one only if there was no
      // other. Acquire: pairs with the release in ControlFile::BeginConfigChange().
      config_version_(
          control_->header().config_version.load(std::memory_order_acquire) == 0 ? 0 : kNoVersion),
      partitions_(control_->partitions()) {
  absl::MutexLock lock(&mutex_);
  all_slots_.push_back(std::make_unique<const Slots>(control_->partitions()));
  slots_.store(all_slots_.back().get(), std::memory_order_release);
}

std::shared_ptr<ControlFile> TopicFiles::control() const {
  absl::MutexLock lock(&mutex_);
  return control_;
}

int TopicFiles::LookForMore() const {
  // In a forked child a thread of the parent may hold the mutex for ever.
  if (context_->live->is_open()) {
    absl::MutexLock lock(&mutex_);
    LookForMoreLocked();
  }
  return partitions_.load(std::memory_order_acquire);
}

void TopicFiles::LookForMoreLocked() const {
  control_->LookForMore(*context_->root, TopicFolder(name_) + "/control");
  const int now = control_->partitions();
  if (now <= partitions_.load(std::memory_order_relaxed)) return;
  const Slots& old = *all_slots_.back();
  if (now > old.count) {
    // At least twice as many, so that all that are kept are no more than that again.
    auto slots = std::make_unique<const Slots>(std::max(now, 2 * old.count));
    for (int i = 0; i < old.count; ++i) {
      Slot& to = slots->at(i);
      to.log = old.at(i).log;
      to.seen.store(old.at(i).seen.load(std::memory_order_relaxed), std::memory_order_relaxed);
      to.ready.store(old.at(i).ready.load(std::memory_order_relaxed), std::memory_order_relaxed);
    }
    // Release: pairs with the acquire in FindLog().
    slots_.store(slots.get(), std::memory_order_release);
    all_slots_.push_back(std::move(slots));
  }
  partitions_.store(now, std::memory_order_release);
}

absl::StatusOr<Log*> TopicFiles::OpenSlow(int partition) {
  const int count = partitions();
  if (partition < 0 || partition >= count) {
    return absl::NotFoundError(absl::StrCat("topic ", name_, " has no partition ", partition,
                                            ": it has ", count, ", from 0"));
  }
  // Before the mutex: in a forked child, a thread of the parent may hold it for ever.
  CORDWOOD_RETURN_IF_ERROR(context_->live->Check());
  absl::MutexLock lock(&mutex_);
  if (context_->read_only() && control_->header().state.load(std::memory_order_acquire) ==
                                   static_cast<std::uint32_t>(ControlState::kReplaced)) {
    RefreshLocked();
  }
  Slot& slot = all_slots_.back()->at(partition);
  if (slot.log == nullptr) {
    CORDWOOD_ASSIGN_OR_RETURN(slot.log, Log::Open(context_,
                                                  PartitionFilesIn(*context_, TopicFolder(name_),
                                                                   name_, identity_, partition),
                                                  LogConfig::Of(config_), control_, partition));
    // Release: pairs with the acquire in FindLog().
    if (!context_->read_only()) slot.ready.store(slot.log.get(), std::memory_order_release);
  }
  return slot.log.get();
}

absl::StatusOr<std::shared_ptr<Log>> TopicFiles::OpenLog(int partition) {
  CORDWOOD_ASSIGN_OR_RETURN(Log * log, FindLog(partition));
  return log->shared_from_this();
}

std::shared_ptr<Log> TopicFiles::LogIfOpen(int partition) const {
  absl::MutexLock lock(&mutex_);
  const Slots& slots = *all_slots_.back();
  return partition >= 0 && partition < slots.count ? slots.at(partition).log : nullptr;
}

std::vector<std::shared_ptr<Log>> TopicFiles::OpenLogs() const {
  std::vector<std::shared_ptr<Log>> logs;
  absl::MutexLock lock(&mutex_);
  const Slots& slots = *all_slots_.back();
  for (int i = 0; i < slots.count; ++i) {
    if (slots.at(i).log != nullptr) logs.push_back(slots.at(i).log);
  }
  return logs;
}

// ---- The config

TopicConfig TopicFiles::config() const {
  if (!context_->live->is_open()) {
    // In a forked child a thread of the parent may hold the mutex for ever.
    if (!mutex_.TryLock()) return identity_.config;
    TopicConfig last = config_;
    mutex_.Unlock();
    return last;
  }
  absl::MutexLock lock(&mutex_);
  RefreshConfigLocked();
  LookForMoreLocked();
  TopicConfig config = config_;
  // The file says so a moment before they are there.
  config.partitions = partitions_.load(std::memory_order_relaxed);
  return config;
}

void TopicFiles::RefreshConfig() const {
  const std::uint64_t version =
      header_.load(std::memory_order_acquire)->config_version.load(std::memory_order_relaxed);
  if (version == config_version_.load(std::memory_order_relaxed) && version % 2 == 0) return;
  if (!context_->live->is_open()) return;
  absl::MutexLock lock(&mutex_);
  RefreshConfigLocked();
}

void TopicFiles::RefreshConfigLocked() const {
  // Acquire, and before the file is read: pairs with the releases around its change. What
  // changes later has another version.
  const std::uint64_t version = control_->header().config_version.load(std::memory_order_acquire);
  const bool whole = version % 2 == 0;
  if ((whole && version == config_version_.load(std::memory_order_relaxed)) || is_deleted()) {
    return;
  }
  const absl::StatusOr<TopicIdentity> now = ReadConfig(*context_->root, name_);
  if (!now.ok() || now->id != identity_.id) return;
  config_ = now->config;
  const LogConfig of_logs = LogConfig::Of(config_);
  const Slots& slots = *all_slots_.back();
  for (int i = 0; i < slots.count; ++i) {
    if (slots.at(i).log != nullptr) slots.at(i).log->SetConfig(of_logs);
  }
  config_version_.store(whole ? version : kNoVersion, std::memory_order_relaxed);
}

bool TopicFiles::is_deleted() const {
  return deleted_.load(std::memory_order_acquire) ||
         first_block_.load(std::memory_order_acquire)->state.load(std::memory_order_acquire) ==
             static_cast<std::uint32_t>(PartitionState::kDeleted);
}

absl::Status TopicFiles::status() const {
  CORDWOOD_RETURN_IF_ERROR(context_->live->Check());
  if (!is_deleted()) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("topic ", name_, " was deleted"));
}

bool TopicFiles::Refresh() {
  if (!context_->read_only()) return false;
  absl::MutexLock lock(&mutex_);
  return RefreshLocked();
}

bool TopicFiles::RefreshLocked() {
  // By what the name names, and not by the old file's state alone: a first opener may have
  // died after its rename and before it could mark the old file as replaced.
  const std::string path = TopicFolder(name_) + "/control";
  const absl::StatusOr<std::unique_ptr<os::File>> file =
      context_->root->OpenFile(path, os::OpenMode::kRead);
  if (!file.ok()) return false;
  const absl::StatusOr<os::FileInfo> info = (*file)->Info();
  // The inode of the file in control_ cannot be another file's: it is mapped.
  if (!info.ok() || (info->inode == control_->inode() && info->device == control_->device())) {
    return false;
  }
  absl::StatusOr<std::shared_ptr<ControlFile>> now =
      ControlFile::Open(*context_->root, path, identity_.id, os::Access::kRead);
  if (!now.ok() || (*now)->partitions() < partitions_.load(std::memory_order_relaxed) ||
      !(*now)->IsWorthTrying(context_->boot_id)) {
    return false;
  }
  replaced_.push_back(std::move(control_));
  control_ = *std::move(now);
  header_.store(&control_->header(), std::memory_order_release);
  first_block_.store(&control_->block(0), std::memory_order_release);
  config_version_.store(kNoVersion, std::memory_order_relaxed);
  const Slots& slots = *all_slots_.back();
  for (int i = 0; i < slots.count; ++i) {
    Slot& slot = slots.at(i);
    if (slot.log != nullptr) replaced_.push_back(std::move(slot.log));
    slot.log = nullptr;
  }
  LookForMoreLocked();
  return true;
}

absl::StatusOr<std::shared_ptr<ControlFile>> OpenControlReadOnly(
    const std::shared_ptr<const Context>& context, std::string_view name,
    const TopicIdentity& identity) {
  const std::string folder = TopicFolder(name);
  absl::StatusOr<std::shared_ptr<ControlFile>> control =
      ControlFile::Open(*context->root, folder + "/control", identity.id, os::Access::kRead);
  // It may have fewer partitions than the config, while some are added.
  const int known = control.ok() ? (*control)->partitions() : 0;
  if (control.ok()) {
    if ((*control)->IsWorthTrying(context->boot_id)) return control;
    const CleanEntry now = CleanEntry::Of(**control);
    for (const CleanEntry& entry : ReadCleanMarker(*context->root)) {
      if (entry == now) return control;
    }
  }
  // Nobody has it open, and whoever had it last did not close it: find the ends by
  // ourselves, in memory of our own.
  std::vector<Watermarks> partitions;
  for (int i = 0; i < identity.config.partitions; ++i) {
    RecoveryInput input;
    input.files = PartitionFilesIn(*context, folder, name, identity, i);
    input.segment_bytes = LogConfig::Of(identity.config).segment_bytes;
    input.read_only = true;
    if (i < known) input.control = WatermarksOf((*control)->block(i));
    absl::StatusOr<RecoveredPartition> recovered = RecoverPartition(*context, input);
    // A file that was listed is gone: somebody has come who recovers, compacts or trims.
    for (int n = 1; absl::IsNotFound(recovered.status()) && n < kScansMax; ++n) {
      recovered = RecoverPartition(*context, input);
    }
    if (!recovered.ok()) return recovered.status();
    partitions.push_back(recovered->watermarks);
  }
  return ControlFile::MakePrivate(identity.id, partitions);
}

}  // namespace cordwood::log
