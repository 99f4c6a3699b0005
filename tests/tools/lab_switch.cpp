// An Ethernet switch that delays every frame, for kernels without netem: lab_switch MICROSECONDS PORT PORT...
// Runs in the lab's switch namespace, on the switch's ends of the hosts' links. What a port's qdisc refuses is dropped,
// as on a real link. Prints "ready" when it forwards, and ends on a signal.
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using Address = std::array<std::uint8_t, ETH_ALEN>;

struct Frame {
  Clock::time_point due;
  std::size_t from;
  std::vector<std::uint8_t> bytes;
};

constexpr std::size_t longest_frame = 2048;
constexpr std::size_t most_waiting = 100'000;  // some seconds of what a lab carries

Address address_at(const std::vector<std::uint8_t>& frame, std::size_t at) {
  Address out{};
  std::memcpy(out.data(), frame.data() + at, out.size());
  return out;
}

int open_port(const char* name) {
  const int fd = ::socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL));
  sockaddr_ll at{};
  at.sll_family = AF_PACKET;
  at.sll_protocol = htons(ETH_P_ALL);
  at.sll_ifindex = static_cast<int>(::if_nametoindex(name));
  packet_mreq all{};
  all.mr_ifindex = at.sll_ifindex;
  all.mr_type = PACKET_MR_PROMISC;
  const int one = 1;
  const int buffer = 8 << 20;
  if (fd < 0 || at.sll_ifindex == 0 || ::bind(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0 ||
      ::setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all) != 0 ||
      ::setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) != 0) {
    std::fprintf(stderr, "lab_switch: %s: %s\n", name, std::strerror(errno));
    std::exit(1);
  }
  ::setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer);
  ::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer);
  return fd;
}

}  // namespace

int main(int argc, char** argv) {
  char* end = nullptr;
  const auto delay = std::chrono::microseconds(argc > 3 ? std::strtoll(argv[1], &end, 10) : -1);
  if (delay.count() < 0 || *end != '\0') {
    std::fputs("usage: lab_switch MICROSECONDS PORT PORT...\n", stderr);
    return 2;
  }
  std::vector<pollfd> ports;
  for (int i = 2; i < argc; ++i) ports.push_back({open_port(argv[i]), POLLIN, 0});
  std::puts("ready");
  std::fflush(stdout);
  std::deque<Frame> waiting;
  std::map<Address, std::size_t> port_of;
  std::vector<std::uint8_t> buffer(longest_frame);
  for (;;) {
    const auto now = Clock::now();
    for (; !waiting.empty() && waiting.front().due <= now; waiting.pop_front()) {
      const auto& frame = waiting.front();
      const auto known = port_of.find(address_at(frame.bytes, 0));
      for (std::size_t port = 0; port < ports.size(); ++port)
        if (port != frame.from && (known == port_of.end() || known->second == port))
          ::send(ports[port].fd, frame.bytes.data(), frame.bytes.size(), MSG_DONTWAIT);
    }
    const auto left = waiting.empty() ? std::chrono::nanoseconds(std::chrono::seconds(1))
                                      : std::chrono::nanoseconds(waiting.front().due - now);
    const timespec wait{left.count() / 1'000'000'000, left.count() % 1'000'000'000};
    if (::ppoll(ports.data(), ports.size(), &wait, nullptr) < 0 && errno != EINTR) return 1;
    const auto due = Clock::now() + delay;
    for (std::size_t port = 0; port < ports.size(); ++port) {
      if ((ports[port].revents & POLLIN) == 0) continue;
      for (int batch = 0; batch < 64 && waiting.size() < most_waiting; ++batch) {
        const auto n = ::recv(ports[port].fd, buffer.data(), buffer.size(), MSG_TRUNC);
        if (n < static_cast<ssize_t>(ETH_HLEN)) break;
        if (n > static_cast<ssize_t>(buffer.size())) continue;  // offloads are off: there is no such frame
        waiting.push_back({due, port, {buffer.begin(), buffer.begin() + n}});
        port_of[address_at(waiting.back().bytes, ETH_ALEN)] = port;
      }
    }
  }
}
