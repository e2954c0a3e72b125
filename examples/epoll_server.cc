// A server with one thread: requests come in on sockets, are appended, and are answered once they
// are durable; every event of the topic, whichever process wrote it, goes out to who subscribed.
//
//   usage: epoll_server [--port N] DIRECTORY      serves on 127.0.0.1 until Ctrl-C
//          epoll_server --self-test DIRECTORY     is its own client, checks the answers and ends
//
//   --port N   default: 0, a free port; the first line that it prints names it
//
// A request is a line. "subscribe" asks for every event from now on; any other line is an event.
//
//   $ nc 127.0.0.1 PORT
//   hello                   an event
//   ok 0                    durable, at offset 0; "error ..." if not
//   subscribe
//   subscribed
//   event 1 good morning    somebody else's
//
// exit codes: 0 ended by a signal, or the self-test passed; 1 something failed, and stderr says
// what; 2 wrong arguments.
#include <arpa/inet.h>
#include <cordwood/cordwood.h>
#include <cordwood/status_macros.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {
using namespace cordwood;

constexpr char kTopic[] = "events";
constexpr std::size_t kLineBytesMax = 64 << 10;
constexpr std::size_t kUnsentBytesMax = 1 << 20;  // who reads slower than that is cut off

absl::Status ErrnoStatus(const std::string& what) {
  return absl::UnavailableError(what + ": " + std::strerror(errno));
}

// A descriptor that is closed when nobody needs it any more.
class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }

 private:
  int fd_;
};

// What the thread that flushes hands to the thread that serves. The callbacks own a share of it, so
// one that is called late finds it there.
class DoneQueue {
 public:
  struct Done {
    std::uint64_t session = 0;
    Offset offset = 0;
    absl::Status status = {};
  };

  DoneQueue() : fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}
  int fd() const { return fd_.get(); }

  void Push(Done done) {
    {
      const std::lock_guard lock(mutex_);
      done_.push_back(std::move(done));
    }
    const std::uint64_t one = 1;
    // It fails only if 2^64 - 2 rings are waiting: then the loop is awake anyway.
    [[maybe_unused]] const ssize_t written = write(fd_.get(), &one, sizeof one);
  }

  std::vector<Done> TakeAll() {
    std::uint64_t rings = 0;
    [[maybe_unused]] const ssize_t got = read(fd_.get(), &rings, sizeof rings);
    const std::lock_guard lock(mutex_);
    return std::exchange(done_, {});
  }

 private:
  const Fd fd_;
  std::mutex mutex_;
  std::vector<Done> done_ = {};
};

struct Session {
  Fd fd;
  std::string in = {};   // an unfinished line
  std::string out = {};  // what the socket has not taken yet
  bool subscribed = false;
  bool wants_write = false;
};

class Server {
 public:
  // `stop_fd` ends Run() once it is readable.
  static absl::StatusOr<std::unique_ptr<Server>> Create(const std::string& directory,
                                                        std::uint16_t port, int stop_fd) {
    // An answer waits for a flush, which all requests of these two milliseconds share.
    CORDWOOD_ASSIGN_OR_RETURN(Broker broker,
                              Broker::Open(directory, {.flush_interval = absl::Milliseconds(2)}));
    CORDWOOD_ASSIGN_OR_RETURN(Topic topic, broker.OpenOrCreateTopic(kTopic));
    CORDWOOD_ASSIGN_OR_RETURN(Consumer consumer, broker.NewConsumer());
    CORDWOOD_RETURN_IF_ERROR(consumer.Assign({{kTopic, 0}}));
    CORDWOOD_RETURN_IF_ERROR(consumer.SeekToEnd());
    auto server = std::unique_ptr<Server>(
        new Server(std::move(broker), topic.partition(0), std::move(consumer), stop_fd));
    CORDWOOD_RETURN_IF_ERROR(server->Listen(port));
    return server;
  }

  std::uint16_t port() const { return port_; }

  absl::Status Run() {
    for (;;) {
      epoll_event events[64];
      const int count = epoll_wait(epoll_.get(), events, 64, -1);
      if (count < 0 && errno != EINTR) return ErrnoStatus("epoll_wait");
      for (int i = 0; i < count; ++i) {
        const std::uint64_t id = events[i].data.u64;
        if (id == kStop) return broker_.Close();
        if (id == kListener) {
          Accept();
        } else if (id == kRecords) {
          CORDWOOD_RETURN_IF_ERROR(PushRecords());
        } else if (id == kDone) {
          AnswerDurable();
        } else {
          Serve(id, events[i].events);
        }
      }
    }
  }

 private:
  // What an epoll event is about; from kFirstSession on it is a session. Numbers of sessions are
  // not used again, so an answer that comes late never goes to a stranger.
  enum : std::uint64_t { kStop, kListener, kRecords, kDone, kFirstSession };

  Server(Broker broker, Partition log, Consumer consumer, int stop_fd)
      : broker_(std::move(broker)),
        log_(std::move(log)),
        consumer_(std::move(consumer)),
        stop_fd_(stop_fd),
        epoll_(epoll_create1(EPOLL_CLOEXEC)) {}

  absl::Status Listen(std::uint16_t port) {
    if (!epoll_.ok() || done_->fd() < 0) return ErrnoStatus("epoll_create1 or eventfd");
    listener_ = Fd(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!listener_.ok()) return ErrnoStatus("socket");
    const int on = 1;
    setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    socklen_t size = sizeof address;
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    if (bind(listener_.get(), generic, size) != 0 || listen(listener_.get(), SOMAXCONN) != 0 ||
        getsockname(listener_.get(), generic, &size) != 0) {
      return ErrnoStatus("cannot listen on 127.0.0.1:" + std::to_string(port));
    }
    port_ = ntohs(address.sin_port);

    CORDWOOD_ASSIGN_OR_RETURN(const int ready_fd, consumer_.ReadyFd());
    for (const auto& [fd, id] : {std::pair<int, std::uint64_t>(stop_fd_, kStop),
                                 {listener_.get(), kListener},
                                 {ready_fd, kRecords},
                                 {done_->fd(), kDone}}) {
      if (!Watch(EPOLL_CTL_ADD, fd, id, EPOLLIN)) return ErrnoStatus("epoll_ctl");
    }
    return absl::OkStatus();
  }

  bool Watch(int operation, int fd, std::uint64_t id, std::uint32_t what) {
    epoll_event event{};
    event.events = what;
    event.data.u64 = id;
    return epoll_ctl(epoll_.get(), operation, fd, &event) == 0;
  }

  void Accept() {
    Fd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd.ok()) return;  // it has gone again, or there are too many; the others are served on
    const std::uint64_t id = next_session_++;
    if (Watch(EPOLL_CTL_ADD, fd.get(), id, EPOLLIN)) sessions_[id].fd = std::move(fd);
  }

  void Serve(std::uint64_t id, std::uint32_t what) {
    const auto found = sessions_.find(id);
    if (found == sessions_.end()) return;  // closed earlier in this round
    Session& session = found->second;
    bool open = true;
    if ((what & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) open = ReadLines(id, session);
    if (!open || !Write(id, session)) sessions_.erase(id);  // which closes its socket
  }

  // False: the session is over.
  bool ReadLines(std::uint64_t id, Session& session) {
    char bytes[16 << 10];
    const ssize_t got = read(session.fd.get(), bytes, sizeof bytes);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (got == 0) return false;
    session.in.append(bytes, static_cast<std::size_t>(got));
    std::size_t begin = 0;
    for (std::size_t end; (end = session.in.find('\n', begin)) != std::string::npos;) {
      std::string_view line(session.in.data() + begin, end - begin);
      if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
      OnLine(id, session, line);
      begin = end + 1;
    }
    session.in.erase(0, begin);
    return session.in.size() <= kLineBytesMax;
  }

  void OnLine(std::uint64_t id, Session& session, std::string_view line) {
    if (line == "subscribe") {
      session.subscribed = true;
      session.out += "subscribed\n";
      return;
    }
    // The loop must not wait for another writer: with no time at all, a busy partition is an
    // error, and then nothing was appended.
    const absl::StatusOr<Offset> offset =
        log_.Append({.value = line}, {.timeout = absl::ZeroDuration()});
    if (!offset.ok()) {
      session.out += "error " + std::string(offset.status().message()) + "\n";
      return;
    }
    // Published, and readers see it; the client is told once no power cut can take it. To wait here
    // for the disk would stop every session.
    const absl::Status asked =
        log_.OnDurable(*offset, [done = done_, id, at = *offset](const absl::Status& status) {
          done->Push({id, at, status});
        });
    if (!asked.ok()) done_->Push({id, *offset, asked});
  }

  void AnswerDurable() {
    for (const DoneQueue::Done& done : done_->TakeAll()) {
      Send(done.session, done.status.ok() ? "ok " + std::to_string(done.offset) + "\n"
                                          : "error " + std::string(done.status.message()) + "\n");
    }
  }

  // The topic has news. One poll a round: the descriptor stays readable while there is more.
  absl::Status PushRecords() {
    const absl::Status polled = consumer_.PollInto(batch_, absl::ZeroDuration());
    if (!polled.ok()) return polled;
    for (const RecordView& record : batch_) {
      const std::string event = "event " + std::to_string(record.offset()) + " " +
                                std::string(record.value().value_or("")) + "\n";
      std::vector<std::uint64_t> subscribers;
      for (const auto& [id, session] : sessions_) {
        if (session.subscribed) subscribers.push_back(id);
      }
      for (const std::uint64_t id : subscribers) Send(id, event);
    }
    return absl::OkStatus();
  }

  void Send(std::uint64_t id, const std::string& text) {
    const auto found = sessions_.find(id);
    if (found == sessions_.end()) return;  // it did not wait for its answer
    found->second.out += text;
    if (!Write(id, found->second)) sessions_.erase(found);
  }

  // Writes what the socket takes; the rest goes when epoll says so. False: the session is over.
  bool Write(std::uint64_t id, Session& session) {
    while (!session.out.empty()) {
      const ssize_t sent =
          send(session.fd.get(), session.out.data(), session.out.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0 && errno != EAGAIN) return false;
      if (sent < 0) break;
      session.out.erase(0, static_cast<std::size_t>(sent));
    }
    if (session.out.size() > kUnsentBytesMax) return false;
    const bool wants_write = !session.out.empty();
    if (wants_write != session.wants_write) {
      session.wants_write = wants_write;
      return Watch(EPOLL_CTL_MOD, session.fd.get(), id, wants_write ? EPOLLIN | EPOLLOUT : EPOLLIN);
    }
    return true;
  }

  Broker broker_;
  Partition log_;
  Consumer consumer_;
  RecordBatch batch_ = {};
  std::shared_ptr<DoneQueue> done_ = std::make_shared<DoneQueue>();
  int stop_fd_;
  std::uint16_t port_ = 0;
  Fd epoll_;
  Fd listener_ = Fd();
  std::map<std::uint64_t, Session> sessions_ = {};
  std::uint64_t next_session_ = kFirstSession;
};

// ---------------------------------------------------------------- the self-test's client

// A plain client that waits: ten seconds at most for each line.
class Client {
 public:
  explicit Client(std::uint16_t port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval patience{.tv_sec = 10, .tv_usec = 0};
    setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    connected_ =
        connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  bool Say(const std::string& text) {
    return connected_ && send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL) ==
                             static_cast<ssize_t>(text.size());
  }
  // A line without its end; none if the server has hung up or takes too long.
  std::optional<std::string> Hear() {
    std::size_t end;
    while ((end = heard_.find('\n')) == std::string::npos) {
      char bytes[4096];
      const ssize_t got = recv(fd_.get(), bytes, sizeof bytes, 0);
      if (got <= 0) return std::nullopt;
      heard_.append(bytes, static_cast<std::size_t>(got));
    }
    std::string line = heard_.substr(0, end);
    heard_.erase(0, end + 1);
    return line;
  }

 private:
  Fd fd_;
  bool connected_ = false;
  std::string heard_ = {};
};

constexpr int kRequests = 100;

struct Heard {
  int answers = 0;
  int events = 0;
};

Heard BeTheClient(std::uint16_t port) {
  Heard heard;
  Client listener(port);
  if (!listener.Say("subscribe\n") || listener.Hear() != "subscribed") return heard;
  Client speaker(port);
  for (int i = 0; i < kRequests; ++i) {
    if (!speaker.Say("request " + std::to_string(i) + "\n")) return heard;
  }
  // Answers come in the order of the requests, and so do the events.
  for (int i = 0; i < kRequests; ++i) {
    const std::string end_of_event = " request " + std::to_string(i);
    const std::optional<std::string> answer = speaker.Hear();
    const std::optional<std::string> event = listener.Hear();
    heard.answers += answer && answer->starts_with("ok ");
    heard.events += event && event->starts_with("event ") && event->ends_with(end_of_event);
    if (!answer || !event) break;
  }
  return heard;
}

absl::Status SelfTest(const std::string& directory) {
  const Fd stop(eventfd(0, EFD_CLOEXEC));
  CORDWOOD_ASSIGN_OR_RETURN(const auto server, Server::Create(directory, 0, stop.get()));
  Heard heard;
  std::thread client([&] {
    heard = BeTheClient(server->port());
    const std::uint64_t one = 1;
    if (write(stop.get(), &one, sizeof one) < 0) std::perror("epoll_server: eventfd");
  });
  const absl::Status served = server->Run();
  client.join();
  CORDWOOD_RETURN_IF_ERROR(served);
  std::printf("%d requests, %d answered once durable, %d events to a subscriber\n", kRequests,
              heard.answers, heard.events);
  if (heard.answers == kRequests && heard.events == kRequests) return absl::OkStatus();
  return absl::InternalError("the self-test failed");
}

absl::Status ServeUntilSignal(const std::string& directory, std::uint16_t port) {
  // Blocked before any thread is made, so that all of them leave the signals to the descriptor.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  const Fd stop(signalfd(-1, &signals, SFD_CLOEXEC));
  if (!stop.ok()) return ErrnoStatus("signalfd");
  CORDWOOD_ASSIGN_OR_RETURN(const auto server, Server::Create(directory, port, stop.get()));
  std::printf("listening on 127.0.0.1:%d\n", static_cast<int>(server->port()));
  std::fflush(stdout);
  return server->Run();
}

constexpr char kUsage[] =
    "usage: epoll_server [--port N] DIRECTORY\n"
    "       epoll_server --self-test DIRECTORY\n";

struct Options {
  std::string directory = {};
  std::uint16_t port = 0;
  bool self_test = false;
};

std::optional<Options> ParseOptions(const std::vector<std::string>& args) {
  Options options;
  for (std::size_t i = 0; i < args.size(); ++i) {
    if (args[i] == "--self-test") {
      options.self_test = true;
    } else if (args[i] == "--port" && i + 1 < args.size()) {
      const std::string& text = args[++i];
      const char* const end = text.data() + text.size();
      const auto [stop, error] = std::from_chars(text.data(), end, options.port);
      if (error != std::errc() || stop != end) return std::nullopt;
    } else if (args[i].empty() || args[i].front() == '-' || !options.directory.empty()) {
      return std::nullopt;
    } else {
      options.directory = args[i];
    }
  }
  if (options.directory.empty()) return std::nullopt;
  return options;
}
}  // namespace

int main(int argc, char** argv) {
  const auto options =
      ParseOptions(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc));
  if (!options) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  const absl::Status status = options->self_test
                                  ? SelfTest(options->directory)
                                  : ServeUntilSignal(options->directory, options->port);
  if (!status.ok()) {
    std::fprintf(stderr, "epoll_server: %s\n", status.ToString().c_str());
    return 1;
  }
  return 0;
}
