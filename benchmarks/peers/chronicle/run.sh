#!/bin/sh
# Chronicle Queue's peer: run.sh TARGET [arguments of peer.h]
#
# TARGET is what mvn package has made. The flags are those that Chronicle's page on Java 17 asks
# for; its report of who uses it, its banner and its check of the disk are off.
set -eu
target=$1
shift
exec java -Xms512m -Xmx512m \
  --add-exports=java.base/jdk.internal.ref=ALL-UNNAMED \
  --add-exports=java.base/sun.nio.ch=ALL-UNNAMED \
  --add-exports=jdk.unsupported/sun.misc=ALL-UNNAMED \
  --add-exports=jdk.compiler/com.sun.tools.javac.file=ALL-UNNAMED \
  --add-opens=jdk.compiler/com.sun.tools.javac=ALL-UNNAMED \
  --add-opens=java.base/java.lang=ALL-UNNAMED \
  --add-opens=java.base/java.lang.reflect=ALL-UNNAMED \
  --add-opens=java.base/java.io=ALL-UNNAMED \
  --add-opens=java.base/java.util=ALL-UNNAMED \
  -Dchronicle.analytics.disable=true \
  -Dchronicle.announcer.disable=true \
  -Dchronicle.disk.monitor.disable=true \
  -Djvm.resource.tracing=false \
  -cp "$target/chronicle-peer-1.jar:$target/lib/*" ChroniclePeer "$@"
