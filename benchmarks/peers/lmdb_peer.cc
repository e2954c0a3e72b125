// LMDB: integer keys in rising order with MDB_APPEND, which fills pages to the full, a writable
// map, and no sync but for durable: what it says is fastest. A transaction for each record or
// batch.

#include <lmdb.h>

#include "benchmarks/peers/peer.h"

namespace cordwood::peers {
namespace {

class LmdbPeer {
 public:
  static constexpr bool kHasBatches = true;
  static constexpr bool kHasDurable = true;
  static std::string Version() {
    return "LMDB " + std::to_string(MDB_VERSION_MAJOR) + "." + std::to_string(MDB_VERSION_MINOR) +
           "." + std::to_string(MDB_VERSION_PATCH);
  }

  LmdbPeer(const std::filesystem::path& directory, bool durable) {
    constexpr std::size_t kMapBytes = std::size_t{16} << 30;
    Must(mdb_env_create(&env_));
    Must(mdb_env_set_mapsize(env_, kMapBytes));
    Must(mdb_env_open(env_, directory.c_str(), MDB_WRITEMAP | (durable ? 0U : MDB_NOSYNC), 0600));
    MDB_txn* txn = nullptr;
    Must(mdb_txn_begin(env_, nullptr, 0, &txn));
    Must(mdb_dbi_open(txn, nullptr, MDB_INTEGERKEY, &dbi_));
    Must(mdb_txn_commit(txn));
  }
  LmdbPeer(const LmdbPeer&) = delete;
  LmdbPeer& operator=(const LmdbPeer&) = delete;
  ~LmdbPeer() { mdb_env_close(env_); }

  bool Append(std::string_view value) { return AppendBatch({&value, 1}); }
  bool AppendBatch(std::span<const std::string_view> values) {
    MDB_txn* txn = nullptr;
    if (mdb_txn_begin(env_, nullptr, 0, &txn) != 0) return false;
    for (const std::string_view value : values) {
      MDB_val key{sizeof next_, &next_};
      MDB_val data{value.size(), const_cast<char*>(value.data())};
      if (mdb_put(txn, dbi_, &key, &data, MDB_APPEND) != 0) {
        mdb_txn_abort(txn);
        return false;
      }
      ++next_;
    }
    return mdb_txn_commit(txn) == 0;
  }
  bool Finish() { return true; }

  template <class F>
  bool ReadAll(F f) {
    MDB_txn* txn = nullptr;
    MDB_cursor* cursor = nullptr;
    Must(mdb_txn_begin(env_, nullptr, MDB_RDONLY, &txn));
    Must(mdb_cursor_open(txn, dbi_, &cursor));
    MDB_val key, data;
    int error = 0;
    while ((error = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) == 0) {
      f(std::string_view(static_cast<const char*>(data.mv_data), data.mv_size));
    }
    mdb_cursor_close(cursor);
    mdb_txn_abort(txn);
    return error == MDB_NOTFOUND;
  }

 private:
  static void Must(int error) {
    if (error == 0) return;
    std::fprintf(stderr, "%s\n", mdb_strerror(error));
    std::exit(1);
  }

  MDB_env* env_ = nullptr;
  MDB_dbi dbi_ = 0;
  std::size_t next_ = 0;
};

}  // namespace
}  // namespace cordwood::peers

int main(int argc, char** argv) {
  return cordwood::peers::Main<cordwood::peers::LmdbPeer>(argc, argv);
}
