#include "mesh/discover.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstring>

#include "core/error.h"

namespace mesh {
namespace {

using asio::ip::udp;
using Clock = std::chrono::steady_clock;

constexpr std::string_view magic = "meshdsc1";
constexpr std::size_t plain_bytes = 8 + 1 + 16 + 2;
constexpr std::size_t mac_bytes = 32;
constexpr std::size_t most_askers = 1000;  // remembered, so that each is answered once a second
constexpr auto answer_every = std::chrono::seconds(1);

std::string mac(std::string_view text, const MeshKey& key) {
  std::string out(mac_bytes, '\0');
  unsigned size = 0;
  HMAC(EVP_sha256(), key.discover.bytes.data(), static_cast<int>(key.discover.bytes.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(), reinterpret_cast<unsigned char*>(out.data()),
       &size);
  return out;
}

}  // namespace

std::string write_discovery(const Discovery& said, const MeshKey& key) {
  std::string out(magic);
  out += said.answers ? 'a' : 'q';
  out.append(said.nonce.data(), said.nonce.size());
  out += static_cast<char>(said.channel_port >> 8);
  out += static_cast<char>(said.channel_port & 0xff);
  return out + mac(out, key);
}

std::optional<Discovery> read_discovery(std::string_view datagram, const MeshKeys& keys) {
  if (datagram.size() != plain_bytes + mac_bytes || !datagram.starts_with(magic)) return std::nullopt;
  const auto plain = datagram.substr(0, plain_bytes);
  const bool known = std::ranges::any_of(keys.all(), [&](const MeshKey& key) {
    return CRYPTO_memcmp(mac(plain, key).data(), datagram.data() + plain_bytes, mac_bytes) == 0;
  });
  const char kind = plain[magic.size()];
  if (!known || (kind != 'a' && kind != 'q')) return std::nullopt;
  Discovery out;
  out.answers = kind == 'a';
  std::copy_n(plain.data() + magic.size() + 1, out.nonce.size(), out.nonce.data());
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(plain[at]); };
  out.channel_port = static_cast<std::uint16_t>(byte(plain_bytes - 2) << 8 | byte(plain_bytes - 1));
  return out;
}

struct Discover::Shared {
  Shared(asio::io_context& io, MeshKeysPtr mesh_keys, std::uint16_t own_port, Found on_found)
      : socket(io), keys(std::move(mesh_keys)), channel_port(own_port), found(std::move(on_found)) {}
  udp::socket socket;
  MeshKeysPtr keys;
  std::uint16_t channel_port;
  Found found;
  std::array<char, 16> nonce{};  ///< of the last question
  std::map<asio::ip::address, Clock::time_point> answered;
};

Discover::Discover(asio::io_context& io, MeshKeysPtr keys, std::uint16_t channel_port, Found found)
    : shared_(std::make_shared<Shared>(io, std::move(keys), channel_port, std::move(found))) {
  boost::system::error_code ec;
  auto& socket = shared_->socket;
  socket.open(udp::v4(), ec);
  // Several nodes of one machine all hear a broadcast.
  if (!ec) socket.set_option(udp::socket::reuse_address(true), ec);
  if (!ec) socket.set_option(asio::socket_base::broadcast(true), ec);
  if (!ec) socket.bind({udp::v4(), port}, ec);
  if (!ec) socket.non_blocking(true, ec);
  if (ec)
    throw Error(Status::failed, "--discover: cannot listen on UDP port " + std::to_string(port) + ": " + ec.message());
  spawn(io, listen(shared_));
}

Discover::~Discover() {
  boost::system::error_code ignored;
  shared_->found = nullptr;
  shared_->socket.close(ignored);
}

void Discover::ask() {
  Discovery question;
  std::ranges::copy_n(random_secret().bytes.begin(), static_cast<std::ptrdiff_t>(question.nonce.size()),
                      question.nonce.begin());
  question.channel_port = shared_->channel_port;
  shared_->nonce = question.nonce;
  const auto datagram = write_discovery(question, shared_->keys->first());
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return;
  for (const auto* at = list; at != nullptr; at = at->ifa_next) {
    if (at->ifa_addr == nullptr || at->ifa_addr->sa_family != AF_INET || (at->ifa_flags & IFF_BROADCAST) == 0 ||
        (at->ifa_flags & IFF_UP) == 0 || at->ifa_broadaddr == nullptr)
      continue;
    sockaddr_in to{};
    std::memcpy(&to, at->ifa_broadaddr, sizeof to);
    boost::system::error_code ignored;
    shared_->socket.send_to(asio::buffer(datagram), {asio::ip::address_v4(ntohl(to.sin_addr.s_addr)), port}, 0,
                            ignored);
  }
  ::freeifaddrs(list);
}

Task<void> Discover::listen(std::shared_ptr<Shared> shared) {
  std::array<char, 256> buffer{};
  while (shared->socket.is_open()) {
    udp::endpoint from;
    boost::system::error_code ec;
    const std::size_t size = co_await shared->socket.async_receive_from(asio::buffer(buffer), from,
                                                                        asio::redirect_error(asio::use_awaitable, ec));
    if (ec == asio::error::operation_aborted || !shared->found) co_return;
    if (ec) continue;  // an answer of this side that nobody took
    const auto said = read_discovery({buffer.data(), size}, *shared->keys);
    // Not its own question, nor an answer to another's.
    if (!said || (said->nonce == shared->nonce) != said->answers) continue;
    if (!said->answers) {
      const auto now = Clock::now();
      if (shared->answered.size() >= most_askers)
        std::erase_if(shared->answered, [&](const auto& pair) { return now - pair.second > answer_every; });
      const auto it = shared->answered.find(from.address());
      if (it == shared->answered.end() ? shared->answered.size() >= most_askers : now - it->second < answer_every)
        continue;
      shared->answered[from.address()] = now;
      Discovery answer;
      answer.answers = true;
      answer.nonce = said->nonce;
      answer.channel_port = shared->channel_port;
      const auto datagram = write_discovery(answer, shared->keys->first());
      boost::system::error_code ignored;
      shared->socket.send_to(asio::buffer(datagram), from, 0, ignored);
      continue;  // a question may be an old one, sent again from a forged address: whoever asked comes by himself
    }
    shared->found(from.address(), said->channel_port);
  }
}

}  // namespace mesh
