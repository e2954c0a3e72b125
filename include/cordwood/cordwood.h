// Cordwood: partitioned, durable commit logs as a library. This is all that a user includes.
//
//   cordwood::Broker broker = cordwood::Broker::Open("data").value();
//   broker.OpenOrCreateTopic("orders", {.partitions = 3}).value();
//   cordwood::Producer producer = broker.NewProducer().value();
//   producer.Send("orders", {.key = "alice", .value = "book"}).value();
//
// Each of the headers below says what may be called from which thread, and what has to
// outlive what. cordwood/status_macros.h and cordwood/serde_json.h are beside it, for those
// who want them.

#ifndef CORDWOOD_CORDWOOD_H_
#define CORDWOOD_CORDWOOD_H_

// Users write absl::Now() and absl::Seconds() beside our names.
#include "absl/time/clock.h"
#include "cordwood/broker.h"
#include "cordwood/catalog.h"
#include "cordwood/completion.h"
#include "cordwood/consumer.h"
#include "cordwood/describe.h"
#include "cordwood/metrics.h"
#include "cordwood/options.h"
#include "cordwood/partition.h"
#include "cordwood/partitioner.h"
#include "cordwood/producer.h"
#include "cordwood/record.h"
#include "cordwood/repair.h"
#include "cordwood/serde.h"
#include "cordwood/share_consumer.h"
#include "cordwood/status.h"
#include "cordwood/table_view.h"
#include "cordwood/topic.h"
#include "cordwood/typed.h"
#include "cordwood/verify.h"

#endif  // CORDWOOD_CORDWOOD_H_
