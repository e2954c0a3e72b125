// SQLite with a write-ahead log, prepared statements and a table whose key is the record's number.
// synchronous=NORMAL, which does not sync on commit, but for durable: FULL. A transaction for each
// record or batch.

#include <sqlite3.h>

#include "benchmarks/peers/peer.h"

namespace cordwood::peers {
namespace {

class SqlitePeer {
 public:
  static constexpr bool kHasBatches = true;
  static constexpr bool kHasDurable = true;
  static std::string Version() { return "SQLite " SQLITE_VERSION; }

  SqlitePeer(const std::filesystem::path& directory, bool durable) {
    Must(sqlite3_open((directory / "log.db").c_str(), &db_));
    Run("PRAGMA journal_mode=WAL");
    Run(durable ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL");
    Run("PRAGMA mmap_size=8589934592");
    Run("PRAGMA cache_size=-65536");
    Run("CREATE TABLE IF NOT EXISTS log (id INTEGER PRIMARY KEY, value BLOB NOT NULL)");
    insert_ = Prepare("INSERT INTO log (value) VALUES (?)");
    begin_ = Prepare("BEGIN");
    commit_ = Prepare("COMMIT");
    select_ = Prepare("SELECT value FROM log ORDER BY id");
  }
  SqlitePeer(const SqlitePeer&) = delete;
  SqlitePeer& operator=(const SqlitePeer&) = delete;
  ~SqlitePeer() {
    for (sqlite3_stmt* statement : {insert_, begin_, commit_, select_}) {
      sqlite3_finalize(statement);
    }
    sqlite3_close(db_);
  }

  bool Append(std::string_view value) {
    sqlite3_bind_blob(insert_, 1, value.data(), static_cast<int>(value.size()), SQLITE_STATIC);
    return Step(insert_);
  }
  bool AppendBatch(std::span<const std::string_view> values) {
    if (!Step(begin_)) return false;
    for (const std::string_view value : values) {
      if (!Append(value)) return false;
    }
    return Step(commit_);
  }
  bool Finish() { return true; }

  template <class F>
  bool ReadAll(F f) {
    int result = 0;
    while ((result = sqlite3_step(select_)) == SQLITE_ROW) {
      f(std::string_view(static_cast<const char*>(sqlite3_column_blob(select_, 0)),
                         static_cast<std::size_t>(sqlite3_column_bytes(select_, 0))));
    }
    sqlite3_reset(select_);
    return result == SQLITE_DONE;
  }

 private:
  void Must(int result) {
    if (result == SQLITE_OK) return;
    std::fprintf(stderr, "%s\n", sqlite3_errmsg(db_));
    std::exit(1);
  }
  void Run(const char* sql) { Must(sqlite3_exec(db_, sql, nullptr, nullptr, nullptr)); }
  sqlite3_stmt* Prepare(const char* sql) {
    sqlite3_stmt* statement = nullptr;
    Must(sqlite3_prepare_v2(db_, sql, -1, &statement, nullptr));
    return statement;
  }
  static bool Step(sqlite3_stmt* statement) {
    const int result = sqlite3_step(statement);
    sqlite3_reset(statement);
    return result == SQLITE_DONE;
  }

  sqlite3* db_ = nullptr;
  sqlite3_stmt* insert_ = nullptr;
  sqlite3_stmt* begin_ = nullptr;
  sqlite3_stmt* commit_ = nullptr;
  sqlite3_stmt* select_ = nullptr;
};

}  // namespace
}  // namespace cordwood::peers

int main(int argc, char** argv) {
  return cordwood::peers::Main<cordwood::peers::SqlitePeer>(argc, argv);
}
