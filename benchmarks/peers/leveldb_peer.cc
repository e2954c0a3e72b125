// LevelDB: a key for each record, in rising order; a write buffer of 64 MiB and no compression, as
// the values do not compress. The log is synced for durable. Reads are an iterator's, checked.

#include <leveldb/db.h>
#include <leveldb/write_batch.h>

#include <memory>

#include "benchmarks/peers/key.h"
#include "benchmarks/peers/peer.h"

namespace cordwood::peers {
namespace {

class LevelDbPeer {
 public:
  static constexpr bool kHasBatches = true;
  static constexpr bool kHasDurable = true;
  static std::string Version() {
    return "LevelDB " + std::to_string(leveldb::kMajorVersion) + "." +
           std::to_string(leveldb::kMinorVersion);
  }

  LevelDbPeer(const std::filesystem::path& directory, bool durable) {
    leveldb::Options options;
    options.create_if_missing = true;
    options.write_buffer_size = 64 << 20;
    options.compression = leveldb::kNoCompression;
    leveldb::DB* db = nullptr;
    const leveldb::Status status = leveldb::DB::Open(options, directory.string(), &db);
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
      batch_.Put(Slice(Key(next_++).bytes()), Slice(value));
    }
    return db_->Write(write_, &batch_).ok();
  }
  bool Finish() { return true; }

  template <class F>
  bool ReadAll(F f) {
    leveldb::ReadOptions read;
    read.verify_checksums = true;
    const std::unique_ptr<leveldb::Iterator> it(db_->NewIterator(read));
    for (it->SeekToFirst(); it->Valid(); it->Next()) {
      f(std::string_view(it->value().data(), it->value().size()));
    }
    return it->status().ok();
  }

 private:
  static leveldb::Slice Slice(std::string_view bytes) {
    return leveldb::Slice(bytes.data(), bytes.size());
  }

  std::unique_ptr<leveldb::DB> db_;
  leveldb::WriteOptions write_;
  leveldb::WriteBatch batch_;
  std::uint64_t next_ = 0;
};

}  // namespace
}  // namespace cordwood::peers

int main(int argc, char** argv) {
  return cordwood::peers::Main<cordwood::peers::LevelDbPeer>(argc, argv);
}
