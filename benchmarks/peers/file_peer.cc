// A plain file, with the length before each value and no checksum. As peer_write each record is one
// write(2), as peer_fwrite records go to a buffer of 1 MiB, which a crash of the process takes; a
// batch is one write of all of it. Durable is an fdatasync for each record. Reads go through a
// buffer of 1 MiB.

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

#include "benchmarks/peers/peer.h"

namespace cordwood::peers {
namespace {

constexpr std::size_t kBufferBytes = 1 << 20;

class FilePeer {
 public:
  static constexpr bool kHasBatches = true;
  static constexpr bool kHasDurable = true;
  static std::string Version() { return CORDWOOD_PEER_BUFFERED ? "fwrite(3)" : "write(2)"; }

  FilePeer(const std::filesystem::path& directory, bool durable)
      : path_(directory / "log"), durable_(durable), file_(std::fopen(path_.c_str(), "a")) {
    if (file_ == nullptr) std::exit(1);
    setvbuf(file_, stream_buffer_.data(), _IOFBF, stream_buffer_.size());
  }
  FilePeer(const FilePeer&) = delete;
  FilePeer& operator=(const FilePeer&) = delete;
  ~FilePeer() { std::fclose(file_); }

  bool Append(std::string_view value) {
    const auto bytes = static_cast<std::uint32_t>(value.size());
    if constexpr (CORDWOOD_PEER_BUFFERED) {
      if (fwrite_unlocked(&bytes, sizeof bytes, 1, file_) != 1 ||
          fwrite_unlocked(value.data(), 1, value.size(), file_) != value.size()) {
        return false;
      }
    } else {
      buffer_.clear();
      Put(value);
      if (!WriteBuffer()) return false;
    }
    return !durable_ || MakeDurable();
  }
  bool AppendBatch(std::span<const std::string_view> values) {
    if constexpr (CORDWOOD_PEER_BUFFERED) {
      for (const std::string_view value : values) {
        if (!Append(value)) return false;
      }
      return true;
    }
    buffer_.clear();
    for (const std::string_view value : values) Put(value);
    return WriteBuffer();
  }
  bool Finish() { return std::fflush(file_) == 0; }

  template <class F>
  bool ReadAll(F f) {
    std::FILE* in = std::fopen(path_.c_str(), "r");
    if (in == nullptr) return false;
    std::vector<char> buffer(kBufferBytes);  // setvbuf ignores a size without one
    setvbuf(in, buffer.data(), _IOFBF, buffer.size());
    std::string value;
    std::uint32_t bytes = 0;
    bool is_whole = true;
    while (is_whole && fread_unlocked(&bytes, sizeof bytes, 1, in) == 1) {
      value.resize(bytes);
      is_whole = fread_unlocked(value.data(), 1, bytes, in) == bytes;
      if (is_whole) f(value);
    }
    std::fclose(in);
    return is_whole;
  }

 private:
  void Put(std::string_view value) {
    const auto bytes = static_cast<std::uint32_t>(value.size());
    buffer_.append(reinterpret_cast<const char*>(&bytes), sizeof bytes);
    buffer_.append(value);
  }
  bool WriteBuffer() {
    return write(fileno(file_), buffer_.data(), buffer_.size()) ==
           static_cast<ssize_t>(buffer_.size());
  }
  bool MakeDurable() { return std::fflush(file_) == 0 && fdatasync(fileno(file_)) == 0; }

  const std::filesystem::path path_;
  const bool durable_;
  std::vector<char> stream_buffer_ = std::vector<char>(kBufferBytes);
  std::FILE* const file_;
  std::string buffer_;
};

}  // namespace
}  // namespace cordwood::peers

int main(int argc, char** argv) {
  return cordwood::peers::Main<cordwood::peers::FilePeer>(argc, argv);
}
