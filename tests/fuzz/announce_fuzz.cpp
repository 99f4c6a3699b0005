// What anybody can say over HTTP, in an announce or a scrape.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "wire/announce.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  std::string fault;
  if (const auto query = mesh::parse_announce(text, fault)) {
    if (query->wanted < 0 || query->wanted > 200) std::abort();
    mesh::AnnouncedPeer peer;
    peer.endpoint = {boost::asio::ip::address_v4::loopback(), query->port};
    peer.peer_id = query->peer_id;
    if (mesh::announce_reply(*query, {&peer, 1}, {}, 1).empty()) std::abort();
  } else if (fault.empty() || mesh::failure_reply(fault).empty()) {
    std::abort();
  }
  if (const auto hashes = mesh::parse_scrape(text, fault); hashes && hashes->size() > 64) std::abort();
  return 0;
}
