// Apache Kafka itself: one broker, on loopback, with its data in a temporary folder. Its jars are
// in build/kafka (cmake/kafka.sh), or where $CORDWOOD_KAFKA_JARS says.
//
//   if (const auto why = RealBroker::WhyNot()) return Skip(*why);
//   RealBroker& kafka = RealBroker::Get();      // started once for all tests of a program
//   ClusterOptions cluster = kafka.cluster();
//   kafka.Stop();  kafka.Start();
//
// It ends with the program that started it, however that ends.

#ifndef CORDWOOD_TESTS_KAFKA_REAL_BROKER_H_
#define CORDWOOD_TESTS_KAFKA_REAL_BROKER_H_

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "cordwood/kafka/cluster.h"
#include "tests/support/files.h"
#include "tests/support/temp_dir.h"

namespace cordwood::testing {

class RealBroker {
 public:
  // None: there is one. Else in words.
  static std::optional<std::string> WhyNot() {
    if (std::system("java -version > /dev/null 2>&1") != 0) return "there is no Java";
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(Jars(), error)) {
      if (entry.path().filename().string().starts_with("kafka_2.13-")) return std::nullopt;
    }
    return "Kafka's jars are not in " + Jars().string() + "; sh cmake/kafka.sh gets them";
  }
  static RealBroker& Get() {
    static RealBroker broker;
    return broker;
  }

  RealBroker() {
    WriteSettings();
    const pid_t formatting = Spawn({"kafka.tools.StorageTool", "format", "-t",
                                    "AAAAAAAAAAAAAAAAAAAAAQ", "-c", settings_.string()});
    int result = 1;
    waitpid(formatting, &result, 0);
    if (result != 0) throw std::runtime_error("formatting Kafka's folder:\n" + ReadAll(log_));
    // Somebody else may have come to listen there: then it ends at once.
    for (int attempt = 1; !Answers(); ++attempt) {
      if (attempt == 5) throw std::runtime_error("Kafka did not start:\n" + ReadAll(log_));
      port_ = FreePort();
      controller_port_ = FreePort();
      WriteSettings();
    }
  }
  RealBroker(const RealBroker&) = delete;
  RealBroker& operator=(const RealBroker&) = delete;
  ~RealBroker() { Stop(SIGKILL); }

  // Returns when it answers.
  void Start() {
    if (!Answers()) throw std::runtime_error("Kafka did not start again:\n" + ReadAll(log_));
  }
  void Stop(int signal = SIGTERM) {
    if (pid_ < 0) return;
    kill(pid_, signal);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  kafka::ClusterOptions cluster() const {
    return {.properties = {{"bootstrap.servers", address()}}};
  }
  static std::string ClassPath() { return (Jars() / "*").string(); }

 private:
  static std::filesystem::path Jars() {
    const char* const given = std::getenv("CORDWOOD_KAFKA_JARS");
    return given != nullptr ? std::filesystem::path(given)
                            : std::filesystem::path(CORDWOOD_SOURCE_FOLDER) / "build" / "kafka";
  }

  // Below those that the system gives to connections, as one of which it would be taken while the
  // broker is not there.
  static int FreePort() {
    int end = 32768;
    std::ifstream("/proc/sys/net/ipv4/ip_local_port_range") >> end;
    std::random_device random;
    std::uniform_int_distribution<int> any(1024, std::max(end, 2048) - 1);
    for (int attempt = 0; attempt < 100; ++attempt) {
      const int port = any(random);
      if (IsFree(port)) return port;
    }
    throw std::runtime_error("no free port");
  }
  static bool IsFree(int port) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    const bool is_free = bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    close(fd);
    return is_free;
  }

  void WriteSettings() const {
    const std::string voter = "127.0.0.1:" + std::to_string(controller_port_);
    WriteAll(settings_,
             "process.roles=broker,controller\n"
             "node.id=1\n"
             "controller.quorum.voters=1@" +
                 voter +
                 "\n"
                 "listeners=PLAINTEXT://" +
                 address() + ",CONTROLLER://" + voter +
                 "\n"
                 "controller.listener.names=CONTROLLER\n"
                 "inter.broker.listener.name=PLAINTEXT\n"
                 "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n"
                 "log.dirs=" +
                 (dir_ / "data").string() +
                 "\n"
                 "offsets.topic.replication.factor=1\n"
                 "offsets.topic.num.partitions=1\n"
                 "transaction.state.log.replication.factor=1\n"
                 "transaction.state.log.min.isr=1\n"
                 "transaction.state.log.num.partitions=1\n"
                 "group.initial.rebalance.delay.ms=0\n"
                 "auto.create.topics.enable=false\n"
                 // The data of the tests is of 1995, and Kafka counts from a record's timestamp.
                 "log.retention.ms=-1\n");
  }

  // Starts it. False: it has ended, and the log says why.
  bool Answers() {
    pid_ = Spawn({"kafka.Kafka", settings_.string()});
    for (int i = 0; i < 60; ++i) {
      const absl::Status status =
          kafka::DescribeTopic(cluster(), "none", absl::Seconds(2)).status();
      if (waitpid(pid_, nullptr, WNOHANG) == pid_) {
        pid_ = -1;
        return false;
      }
      if (absl::IsNotFound(status)) return true;
    }
    throw std::runtime_error("Kafka does not answer:\n" + ReadAll(log_));
  }

  pid_t Spawn(const std::vector<std::string>& arguments) const {
    // A small heap and the quick compiler: it has little to do, and starts in half the time.
    std::vector<std::string> words = {
        "java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", ClassPath()};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> pointers;
    for (std::string& word : words) pointers.push_back(word.data());
    pointers.push_back(nullptr);
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid != 0) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    const int log = open(log_.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(log, 1);
    dup2(log, 2);
    execvp(pointers[0], pointers.data());
    _exit(127);
  }

  TempDir dir_;
  const std::filesystem::path settings_ = dir_ / "settings";
  const std::filesystem::path log_ = dir_ / "log";
  int port_ = FreePort(), controller_port_ = FreePort();
  pid_t pid_ = -1;
};

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_KAFKA_REAL_BROKER_H_
