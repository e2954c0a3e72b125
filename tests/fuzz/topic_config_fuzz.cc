// The bytes of a topic's config. What is understood must survive being written and read again, and
// being altered by nothing.

#include <string_view>

#include "cordwood/log/topic_files.h"
#include "tests/fuzz/support.h"

using namespace cordwood;
using namespace cordwood::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  const std::string_view text = Input(data, bytes).rest();
  const absl::StatusOr<log::TopicIdentity> topic = log::ParseTopicConfig(text, "config");
  if (!topic.ok()) {
    Require(absl::IsDataLoss(topic.status()), "what is wrong with a config is no data loss");
    return 0;
  }
  Require(internal::ValidateTopicConfig(topic->config).ok(),
          "a config was read that no topic can be made with");
  const std::string written = log::FormatTopicConfig(*topic);
  const absl::StatusOr<log::TopicIdentity> again = log::ParseTopicConfig(written, "config");
  Require(again.ok(), "a config that was written cannot be read");
  Require(again->id == topic->id && again->config == topic->config,
          "a config is another one after it was written and read");
  Require(log::FormatTopicConfig(*again) == written, "a config is written in two ways");
  const absl::StatusOr<TopicConfig> altered =
      log::AlteredConfig(topic->config, topic->config.ToProperties());
  Require(altered.ok() && *altered == topic->config, "a config cannot be altered to what it is");
  return 0;
}
