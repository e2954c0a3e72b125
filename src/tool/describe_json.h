// Descriptions as JSON, by the names of their members.
//
// Thread safety: functions of values.

#ifndef CORDWOOD_TOOL_DESCRIBE_JSON_H_
#define CORDWOOD_TOOL_DESCRIBE_JSON_H_

#include "cordwood/describe.h"
#include "json_writer.h"

namespace cordwood::tool {

// `all`: partitions, segments and settings, too.
void WriteTopic(internal::JsonWriter& json, const TopicDescription& topic, bool all);
void WriteGroup(internal::JsonWriter& json, const GroupDescription& group);
void WriteBroker(internal::JsonWriter& json, const BrokerDescription& broker);

}  // namespace cordwood::tool

#endif  // CORDWOOD_TOOL_DESCRIBE_JSON_H_
