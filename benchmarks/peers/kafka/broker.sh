#!/bin/bash
# One broker of Apache Kafka on the loopback, in KRaft mode, as its quick start has it.
#
#   bash broker.sh version TARGET
#   bash broker.sh start TARGET DIRECTORY PORT     returns once it answers
#   bash broker.sh stop DIRECTORY
#
# TARGET is what mvn package has made of pom.xml. The heap and the collector are those of Kafka's
# own start script.
set -eu

run_kafka() {
  java -Xms1g -Xmx1g -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 \
    -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent \
    -Djava.awt.headless=true -cp "$target/lib/*" "$@"
}

case "$1" in
  version)
    jar=$(basename "$2"/lib/kafka_2*.jar .jar)
    echo "Apache Kafka ${jar##*-}"
    ;;
  start)
    target=$2
    directory=$3
    port=$4
    mkdir -p "$directory"
    cat >"$directory/server.properties" <<TEXT
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((port + 1))
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$directory/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
auto.create.topics.enable=false
TEXT
    run_kafka kafka.tools.StorageTool format --cluster-id MkU3OEVBNTcwNTJENDM2Qg \
      --config "$directory/server.properties" >"$directory/format.log" 2>&1
    run_kafka kafka.Kafka "$directory/server.properties" >"$directory/broker.log" 2>&1 &
    echo $! >"$directory/pid"
    # It listens before it answers; the first client waits for the rest.
    tries=0
    until (: </dev/tcp/127.0.0.1/"$port") 2>/dev/null; do
      tries=$((tries + 1))
      if [ "$tries" -gt 600 ] || ! kill -0 "$(cat "$directory/pid")" 2>/dev/null; then
        tail -n 20 "$directory/broker.log" >&2
        exit 1
      fi
      sleep 0.1
    done
    ;;
  stop)
    pid=$(cat "$2/pid")
    kill "$pid" 2>/dev/null || true
    tries=0
    while kill -0 "$pid" 2>/dev/null; do
      tries=$((tries + 1))
      if [ "$tries" -gt 300 ]; then kill -9 "$pid"; fi
      sleep 0.1
    done
    ;;
  *)
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
