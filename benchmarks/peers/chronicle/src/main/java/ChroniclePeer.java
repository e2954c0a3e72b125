import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Random;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.Stream;
import net.openhft.chronicle.bytes.Bytes;
import net.openhft.chronicle.bytes.SyncMode;
import net.openhft.chronicle.queue.ChronicleQueue;
import net.openhft.chronicle.queue.ExcerptAppender;
import net.openhft.chronicle.queue.ExcerptTailer;
import net.openhft.chronicle.queue.rollcycles.LargeRollCycles;
import net.openhft.chronicle.wire.DocumentContext;

/**
 * Chronicle Queue, as peer.h has it: the same works, the same values, the same output.
 *
 * <p>Used as its own benchmarks do: one file for a long time, large blocks, and documents whose
 * bytes are written to and read from the map, with no object made for a record. Each work is done
 * once before, into another queue, so that the compiler has compiled it when the clock starts. It
 * has no batch that is published as one, and durable is a sync() after each record.
 */
public final class ChroniclePeer {
  private static final int NO_SUCH_WORK = 3;
  private static final int POOL_BYTES = 64 << 10;
  private static final int STEP = 24;
  private static final long BLOCK_BYTES = 1L << 30;

  private final Bytes<?> pool;
  private final int valueBytes;

  private ChroniclePeer(int valueBytes) {
    this.valueBytes = valueBytes;
    byte[] random = new byte[POOL_BYTES + valueBytes];
    new Random(1).nextBytes(random);
    pool = Bytes.allocateDirect(random.length);
    pool.write(random);
  }

  private static ChronicleQueue open(Path directory) {
    return open(directory, false);
  }

  /** Unless its mode is SYNC, sync() is an msync with MS_ASYNC, which on Linux does nothing. */
  private static ChronicleQueue open(Path directory, boolean durable) {
    return ChronicleQueue.singleBuilder(directory.toFile())
        .rollCycle(LargeRollCycles.LARGE_DAILY)
        .blockSize(BLOCK_BYTES)
        .syncMode(durable ? SyncMode.SYNC : SyncMode.ASYNC)
        .build();
  }

  private void append(ExcerptAppender appender, long i) {
    try (DocumentContext document = appender.writingDocument()) {
      document.wire().bytes().write(pool, (i * STEP) % POOL_BYTES, (long) valueBytes);
    }
  }

  private long timeAppending(Path directory, long records, boolean durable) {
    try (ChronicleQueue queue = open(directory, durable);
        ExcerptAppender appender = queue.createAppender()) {
      long began = System.nanoTime();
      for (long i = 0; i < records; i++) {
        append(appender, i);
        if (durable) appender.sync();
      }
      return System.nanoTime() - began;
    }
  }

  /** Each value's first bytes are looked at, as a program would that reads them. */
  private long timeReading(Path directory, long records) {
    try (ChronicleQueue queue = open(directory);
        ExcerptTailer tailer = queue.createTailer()) {
      long began = System.nanoTime();
      long sum = 0;
      long read = 0;
      for (;;) {
        try (DocumentContext document = tailer.readingDocument()) {
          if (!document.isPresent()) break;
          Bytes<?> bytes = document.wire().bytes();
          if (bytes.readRemaining() < valueBytes) continue;
          sum += bytes.readLong(bytes.readPosition());
          read++;
        }
      }
      long took = System.nanoTime() - began;
      if (read != records) throw new IllegalStateException(read + " of " + records + " " + sum);
      return took;
    }
  }

  /** As latency.h: one record on its way at a time, and a moment between two of them. */
  private long[] timeOneByOne(Path directory, int records) throws InterruptedException {
    final long pauseNanos = 2_000;
    long[] times = new long[records];
    AtomicLong seen = new AtomicLong();
    // Two queues, as most are in two processes.
    try (ChronicleQueue queue = open(directory);
        ChronicleQueue other = open(directory);
        ExcerptAppender appender = queue.createAppender()) {
      Thread reader = new Thread(() -> {
        try (ExcerptTailer tailer = other.createTailer()) {
          for (int i = 0; i < records;) {
            try (DocumentContext document = tailer.readingDocument()) {
              if (!document.isPresent()) continue;
              Bytes<?> bytes = document.wire().bytes();
              long sent = bytes.readLong(bytes.readPosition());
              times[i] = System.nanoTime() - sent;
            }
            seen.lazySet(++i);
          }
        }
      });
      reader.start();
      for (int i = 0; i < records; i++) {
        long pauseEnds = System.nanoTime() + pauseNanos;
        while (System.nanoTime() < pauseEnds) {}
        try (DocumentContext document = appender.writingDocument()) {
          Bytes<?> bytes = document.wire().bytes();
          bytes.writeLong(System.nanoTime());
          bytes.write(pool, 0L, (long) (valueBytes - Long.BYTES));
        }
        while (seen.get() <= i) {
          if (!reader.isAlive()) throw new IllegalStateException("the reader failed");
        }
      }
      reader.join();
    }
    return times;
  }

  private static long percentile(long[] sorted, int thousandths) {
    return sorted[(int) (((long) sorted.length * thousandths + 999) / 1000) - 1];
  }

  private static long bytesOnDisk(Path directory) throws IOException {
    try (Stream<Path> files = Files.walk(directory)) {
      return files.filter(Files::isRegularFile).mapToLong(ChroniclePeer::allocated).sum();
    }
  }

  private static long allocated(Path file) {
    try {
      // Files are sparse: what counts is what is allocated, which Java does not say.
      Process stat = new ProcessBuilder("stat", "-c", "%b", file.toString()).start();
      return Long.parseLong(new String(stat.getInputStream().readAllBytes()).trim()) * 512;
    } catch (IOException e) {
      throw new IllegalStateException(e);
    }
  }

  private static void printTime(long nanos, Path directory) throws IOException {
    System.out.printf("%.6f %d%n", nanos / 1e9, bytesOnDisk(directory));
  }

  private int run(String work, Path directory, int records) throws Exception {
    Path queue = directory.resolve("queue");
    Path warmUp = directory.resolve("warm-up");
    switch (work) {
      case "append":
        timeAppending(warmUp, 1_000_000, false);
        printTime(timeAppending(queue, records, false), queue);
        return 0;
      case "durable":
        timeAppending(warmUp, 1_000_000, false);
        printTime(timeAppending(queue, records, true), queue);
        return 0;
      case "read":
        timeAppending(queue, records, false);
        // Often enough for the compiler, which also fills the caches.
        for (long read = 0; read < 2_000_000; read += records) timeReading(queue, records);
        timeReading(queue, records);
        printTime(timeReading(queue, records), queue);
        return 0;
      case "latency": {
        timeOneByOne(warmUp, Math.min(200_000, 2 * records));
        long[] times = timeOneByOne(queue, records + records / 10);
        long[] counted = Arrays.copyOfRange(times, records / 10, times.length);
        Arrays.sort(counted);
        System.out.printf("%d %d %d %d%n", percentile(counted, 500), percentile(counted, 990),
            percentile(counted, 999), counted[counted.length - 1]);
        return 0;
      }
      default:
        return NO_SUCH_WORK;
    }
  }

  public static void main(String[] args) throws Exception {
    if (args.length == 1 && args[0].equals("version")) {
      String jar = new File(
          ChronicleQueue.class.getProtectionDomain().getCodeSource().getLocation().getPath())
          .getName();
      System.out.println(jar.replace("chronicle-queue-", "Chronicle Queue ").replace(".jar", "")
          + ", Java " + System.getProperty("java.version"));
      return;
    }
    if (args.length != 4) {
      System.err.println("usage: ChroniclePeer version | WORK VALUE_BYTES RECORDS DIRECTORY");
      System.exit(2);
    }
    int code = new ChroniclePeer(Integer.parseInt(args[1]))
        .run(args[0], Path.of(args[3]), Integer.parseInt(args[2]));
    System.exit(code);
  }
}
