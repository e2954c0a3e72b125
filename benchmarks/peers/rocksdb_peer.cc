// RocksDB: a key for each record, in rising order. What its tuning guide says for writes: level
// style, one background thread for each core, larger and more memtables; no compression, as the
// values do not compress. The write-ahead log is on, and synced for durable. Reads go through an
// iterator that reads ahead; they check checksums, as is RocksDB's default.

#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/version.h>
#include <rocksdb/write_batch.h>

#include <memory>
#include <thread>

#include "benchmarks/peers/key.h"
#include "benchmarks/peers/peer.h"

namespace cordwood::peers {
namespace {

class RocksDbPeer {
 public:
  static constexpr bool kHasBatches = true;
  static constexpr bool kHasDurable = true;
  static std::string Version() {
    return "RocksDB " + std::to_string(ROCKSDB_MAJOR) + "." + std::to_string(ROCKSDB_MINOR) + "." +
           std::to_string(ROCKSDB_PATCH);
  }

  RocksDbPeer(const std::filesystem::path& directory, bool durable) {
    rocksdb::Options options;
    options.create_if_missing = true;
    options.IncreaseParallelism(static_cast<int>(std::thread::hardware_concurrency()));
    options.OptimizeLevelStyleCompaction();
    options.compression = rocksdb::kNoCompression;
    options.compression_per_level.clear();
    rocksdb::DB* db = nullptr;
    const rocksdb::Status status = rocksdb::DB::Open(options, directory.string(), &db);
    if (!status.ok()) {
      std::fprintf(stderr, "%s\n", status.ToString().c_str());
      std::exit(1);
    }
    db_.reset(db);
    write_.sync = durable;
  }

  bool Append(std::string_view value) {
    return db_->Put(write_, Slice(Key(next_++).bytes()), Slice(value)).ok();
  }
  bool AppendBatch(std::span<const std::string_view> values) {
    batch_.Clear();
    for (const std::string_view value : values) {
      if (!batch_.Put(Slice(Key(next_++).bytes()), Slice(value)).ok()) return false;
    }
    return db_->Write(write_, &batch_).ok();
  }
  bool Finish() { return true; }

  template <class F>
  bool ReadAll(F f) {
    rocksdb::ReadOptions read;
    read.readahead_size = 2 << 20;
    const std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator(read));
    for (it->SeekToFirst(); it->Valid(); it->Next()) f(it->value().ToStringView());
    return it->status().ok();
  }

 private:
  static rocksdb::Slice Slice(std::string_view bytes) {
    return rocksdb::Slice(bytes.data(), bytes.size());
  }

  std::unique_ptr<rocksdb::DB> db_;
  rocksdb::WriteOptions write_;
  rocksdb::WriteBatch batch_;
  std::uint64_t next_ = 0;
};

}  // namespace
}  // namespace cordwood::peers

int main(int argc, char** argv) {
  return cordwood::peers::Main<cordwood::peers::RocksDbPeer>(argc, argv);
}
