// Runs every fuzzer over its inputs, without an engine: cordwood_fuzz_corpus <corpus>

#include <stdio.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

extern "C" {
int control_fuzz(const std::uint8_t* data, std::size_t bytes);
int directory_fuzz(const std::uint8_t* data, std::size_t bytes);
int index_fuzz(const std::uint8_t* data, std::size_t bytes);
int offsets_fuzz(const std::uint8_t* data, std::size_t bytes);
int segment_fuzz(const std::uint8_t* data, std::size_t bytes);
int topic_config_fuzz(const std::uint8_t* data, std::size_t bytes);
}

namespace {

namespace fs = std::filesystem;

struct Fuzzer {
  const char* name;
  int (*run)(const std::uint8_t* data, std::size_t bytes);
};

constexpr Fuzzer kFuzzers[] = {{"control", control_fuzz}, {"directory", directory_fuzz},
                               {"index", index_fuzz},     {"offsets", offsets_fuzz},
                               {"segment", segment_fuzz}, {"topic_config", topic_config_fuzz}};

void Run(const Fuzzer& fuzzer, const fs::path& path) {
  // First its name: what is broken ends the process.
  printf("%s %s\n", fuzzer.name, path.filename().c_str());
  fflush(stdout);
  std::ifstream file(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  fuzzer.run(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s <folder with a folder of inputs for each fuzzer>\n", argv[0]);
    return 2;
  }
  for (const Fuzzer& fuzzer : kFuzzers) {
    std::vector<fs::path> inputs;
    for (const auto& entry : fs::directory_iterator(fs::path(argv[1]) / fuzzer.name)) {
      inputs.push_back(entry.path());
    }
    std::sort(inputs.begin(), inputs.end());
    if (inputs.empty()) {
      fprintf(stderr, "%s has no inputs\n", fuzzer.name);
      return 1;
    }
    for (const fs::path& input : inputs) Run(fuzzer, input);
    Run(fuzzer, "/dev/null");
  }
  return 0;
}
