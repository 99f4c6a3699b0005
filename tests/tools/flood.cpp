// Sends mutated messages to a server that one has started oneself: flood HOST RATE COUNT SEED_FILE... -- PORT...
//
// RATE messages a second, COUNT to each port, each message on a connection of its own: a prefix of one of the seeds
// with up to four of its bytes changed. A connection is reset once the server answers or closes, or after a second; so
// many may be open at once as the descriptors allow. Prints what became of them.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <iterator>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

class Flood {
 public:
  Flood(const char* host, std::vector<std::string> seeds) : seeds_(std::move(seeds)), epoll_(::epoll_create1(0)) {
    to_.sin_family = AF_INET;
    if (epoll_ < 0 || ::inet_pton(AF_INET, host, &to_.sin_addr) != 1) throw std::runtime_error("no IPv4 address");
    rlimit descriptors{};
    ::getrlimit(RLIMIT_NOFILE, &descriptors);
    descriptors.rlim_cur = descriptors.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &descriptors);
    most_open_ = static_cast<std::size_t>(descriptors.rlim_cur) - 100;
  }

  void run(double rate, std::int64_t count, const std::vector<std::uint16_t>& ports) {
    const auto begun = Clock::now();
    const auto all = count * static_cast<std::int64_t>(ports.size());
    std::int64_t begun_so_far = 0;
    while (begun_so_far < all || open_ > 0) {
      const double due = rate * seconds(Clock::now() - begun);
      while (begun_so_far < all && static_cast<double>(begun_so_far) < due && open_ < most_open_)
        connect(ports[static_cast<std::size_t>(begun_so_far++) % ports.size()]);
      take_events();
      hang_up();
    }
    const double took = seconds(Clock::now() - begun);
    std::printf(
        "%lld messages, %lld of them answered or hung up on, %lld connections failed, %.1f s, %.0f messages a second\n",
        static_cast<long long>(sent_), static_cast<long long>(answered_), static_cast<long long>(failed_), took,
        static_cast<double>(sent_) / took);
  }

 private:
  static double seconds(Clock::duration time) { return std::chrono::duration<double>(time).count(); }

  struct Connection {
    std::uint64_t number = 0;  ///< 0: none
    bool said = false;
  };

  void connect(std::uint16_t port) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) throw std::runtime_error("no descriptors left");
    const linger reset{1, 0};  // no TIME_WAIT: ports would run out
    ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    to_.sin_port = htons(port);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&to_), sizeof to_) != 0 && errno != EINPROGRESS) {
      ++failed_;
      ::close(fd);
      return;
    }
    epoll_event event{};
    event.events = EPOLLOUT | EPOLLIN | EPOLLRDHUP;
    event.data.fd = fd;
    ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
    if (connections_.size() <= static_cast<std::size_t>(fd)) connections_.resize(static_cast<std::size_t>(fd) + 1);
    at(fd) = {++numbers_, false};
    by_age_.push_back({fd, numbers_, Clock::now()});
    ++open_;
  }

  void take_events() {
    std::array<epoll_event, 256> events{};
    const int count = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 1);
    for (int i = 0; i < count; ++i) {
      const auto& event = events[static_cast<std::size_t>(i)];
      const int fd = event.data.fd;
      if (!at(fd).said && (event.events & EPOLLERR) == 0 && (event.events & EPOLLOUT) != 0) {
        const auto message = mutated();
        if (::send(fd, message.data(), message.size(), MSG_NOSIGNAL) > 0) {
          ++sent_;
          at(fd).said = true;
          epoll_event wanted{};
          wanted.events = EPOLLIN | EPOLLRDHUP;
          wanted.data.fd = fd;
          ::epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &wanted);
          continue;
        }
      }
      at(fd).said ? ++answered_ : ++failed_;
      close(fd);
    }
  }

  void hang_up() {
    while (!by_age_.empty()) {
      const auto& oldest = by_age_.front();
      const bool is_open = at(oldest.fd).number == oldest.number;
      if (is_open && Clock::now() - oldest.since < std::chrono::seconds(1)) break;
      if (is_open) {
        if (!at(oldest.fd).said) ++failed_;
        close(oldest.fd);
      }
      by_age_.pop_front();
    }
  }

  void close(int fd) {
    ::close(fd);
    at(fd) = {};
    --open_;
  }

  std::string mutated() {
    const auto& seed = seeds_[random_() % seeds_.size()];
    std::string out = seed.substr(0, 1 + random_() % seed.size());
    for (auto changes = random_() % 5; changes > 0; --changes)
      out[random_() % out.size()] = static_cast<char>(random_());
    return out;
  }

  Connection& at(int fd) { return connections_[static_cast<std::size_t>(fd)]; }

  struct Age {
    int fd;
    std::uint64_t number;
    Clock::time_point since;
  };
  std::vector<std::string> seeds_;
  int epoll_;
  sockaddr_in to_{};
  std::size_t most_open_ = 0;
  std::size_t open_ = 0;
  std::uint64_t numbers_ = 0;
  std::int64_t sent_ = 0, answered_ = 0, failed_ = 0;
  std::vector<Connection> connections_;
  std::deque<Age> by_age_;
  std::mt19937 random_{1};
};

int run(const std::vector<const char*>& words) {
  std::vector<std::string> seeds;
  std::vector<std::uint16_t> ports;
  std::size_t i = 4;
  for (; i < words.size() && std::string_view(words[i]) != "--"; ++i) {
    std::ifstream in(words[i], std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
    if (seeds.back().empty()) throw std::runtime_error(std::string(words[i]) + ": no seed");
  }
  for (++i; i < words.size(); ++i) ports.push_back(static_cast<std::uint16_t>(std::atoi(words[i])));
  if (seeds.empty() || ports.empty()) {
    std::fputs("usage: flood HOST RATE COUNT SEED_FILE... -- PORT...\n", stderr);
    return 2;
  }
  Flood(words[1], std::move(seeds)).run(std::atof(words[2]), std::atoll(words[3]), ports);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run({argv, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "flood: %s\n", error.what());
    return 1;
  }
}
