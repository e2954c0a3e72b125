#!/bin/sh
# Gets what the tests of the bridge to Apache Kafka need: librdkafka, kcat, a JDK, Maven, and with
# that the jars of a Kafka broker.
#
#   sh cmake/kafka.sh
#
# The jars go to build/kafka, where the tests look for them. It works again without a network. The
# tests do without what it cannot get, and say so.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$root/cmake/prerequisites.sh"

cat <<'TEXT'
This installs librdkafka, kcat, a JDK and Maven if they are missing (up to 500 MB), and has Maven
fetch Apache Kafka's jars into build/kafka (about 50 MB, and 100 MB in Maven's own cache).

TEXT
need librdkafka-dev kcat maven default-jdk-headless

jars=$root/build/kafka
if ls "$jars"/kafka_2.13-*.jar >/dev/null 2>&1; then
  echo "The jars are there: $jars"
  exit 0
fi
# Into another folder first: one that was cut off half way is not taken for whole.
rm -rf "$jars" "$jars.part"
mkdir -p "$root/build"
mvn --quiet --batch-mode --file "$root/tests/kafka/broker/pom.xml" \
  org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
  "-DoutputDirectory=$jars.part" -DincludeScope=runtime
mv "$jars.part" "$jars"
echo "The jars are in $jars"
