// usage: quickstart    (keeps its log in the folder "data"; run it twice)
#include <cordwood/cordwood.h>

#include <iostream>

int main() {
  using namespace cordwood;
  Broker broker = Broker::Open("data").value();
  broker.OpenOrCreateTopic("orders", {.partitions = 3}).value();

  Producer producer = broker.NewProducer().value();
  producer.Send("orders", {.key = "alice", .value = "one book"}).value();
  producer.Send("orders", {.key = "bob", .value = "two lamps"}).value();
  if (!producer.Flush().ok()) return 1;  // from here on no power cut can take them

  Consumer consumer = broker.NewConsumer({.group = "billing"}).value();
  if (!consumer.Subscribe({"orders"}).ok()) return 1;
  for (;;) {
    RecordBatch batch = consumer.Poll(absl::Milliseconds(100)).value();
    if (batch.empty()) break;  // nothing new for 100 ms
    for (const RecordView& order : batch) {
      std::cout << *order.key() << " orders " << *order.value() << "\n";
    }
  }
  return consumer.Commit().ok() ? 0 : 1;  // the next run goes on from here
}
