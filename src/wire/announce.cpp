#include "wire/announce.h"

#include <charconv>
#include <libtorrent/bencode.hpp>
#include <libtorrent/entry.hpp>

namespace mesh {
namespace {

constexpr int max_wanted = 200;
constexpr std::size_t max_scraped = 64;

int hex_value(char c) {
  return c >= '0' && c <= '9'   ? c - '0'
         : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                : -1;
}

std::optional<std::string> unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%') {
      if (i + 2 >= text.size() || hex_value(text[i + 1]) < 0 || hex_value(text[i + 2]) < 0) return std::nullopt;
      out += static_cast<char>(hex_value(text[i + 1]) << 4 | hex_value(text[i + 2]));
      i += 2;
    } else {
      out += text[i] == '+' ? ' ' : text[i];
    }
  }
  return out;
}

/// Calls take(key, value) for each pair of the query; ends early, with the reason in `error`, when take returns one.
template <class Take>
bool each_pair(std::string_view query, std::string& error, const Take& take) {
  while (!query.empty()) {
    const auto end = std::min(query.find('&'), query.size());
    const auto pair = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    const auto equals = std::min(pair.find('='), pair.size());
    const auto value = unescape(pair.substr(std::min(equals + 1, pair.size())));
    if (!value) {
      error = "malformed percent-encoding";
      return false;
    }
    if (const char* fault = take(pair.substr(0, equals), *value)) {
      error = fault;
      return false;
    }
  }
  return true;
}

template <class Number>
bool read_number(std::string_view text, Number& out) {
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), out);
  return ec == std::errc{} && end == text.data() + text.size();
}

std::string bencoded(const lt::entry& entry) {
  std::string out;
  lt::bencode(std::back_inserter(out), entry);
  return out;
}

void append_compact(std::string& out, const boost::asio::ip::tcp::endpoint& endpoint) {
  if (endpoint.address().is_v4()) {
    for (const auto byte : endpoint.address().to_v4().to_bytes()) out += static_cast<char>(byte);
  } else {
    for (const auto byte : endpoint.address().to_v6().to_bytes()) out += static_cast<char>(byte);
  }
  out += static_cast<char>(endpoint.port() >> 8);
  out += static_cast<char>(endpoint.port() & 0xff);
}

/// What nearly every client asks for, many thousand times a second: without a tree of it on the way.
std::string compact_reply(std::span<const AnnouncedPeer> peers, const SwarmCounts& counts, int interval) {
  std::string v4, v6;
  v4.reserve(6 * peers.size());
  for (const auto& peer : peers) append_compact(peer.endpoint.address().is_v4() ? v4 : v6, peer.endpoint);
  std::string out = "d8:completei" + std::to_string(counts.complete) + "e10:incompletei" +
                    std::to_string(counts.incomplete) + "e8:intervali" + std::to_string(interval) +
                    "e12:min intervali" + std::to_string(interval / 4) + "e5:peers" + std::to_string(v4.size()) + ":";
  out += v4;
  if (!v6.empty()) out += "6:peers6" + std::to_string(v6.size()) + ":" + v6;
  return out + "e";
}

}  // namespace

std::optional<AnnounceQuery> parse_announce(std::string_view query, std::string& error) {
  AnnounceQuery out;
  bool have_hash = false, have_port = false;
  const bool good = each_pair(query, error, [&](std::string_view key, const std::string& value) -> const char* {
    if (key == "info_hash") {
      const auto hash = InfoHash::from(value);
      if (!hash) return "info_hash is not 20 bytes";
      out.infohash = *hash;
      have_hash = true;
    } else if (key == "peer_id") {
      const auto id = PeerId::from(value);
      if (!id) return "peer_id is not 20 bytes";
      out.peer_id = *id;
    } else if (key == "port") {
      if (!read_number(value, out.port) || out.port == 0) return "port is no number from 1 to 65535";
      have_port = true;
    } else if (key == "left") {
      if (!read_number(value, out.left) || out.left < 0) return "left is no number of bytes";
    } else if (key == "numwant") {
      if (!read_number(value, out.wanted)) return "numwant is no number";
      out.wanted = out.wanted < 0 ? 50 : std::min(out.wanted, max_wanted);
    } else if (key == "compact") {
      out.compact = value != "0";
    } else if (key == "no_peer_id") {
      out.no_peer_id = value == "1";
    } else if (key == "event") {
      using Event = AnnounceQuery::Event;
      out.event = value == "started"     ? Event::started
                  : value == "stopped"   ? Event::stopped
                  : value == "completed" ? Event::completed
                                         : Event::none;
    }
    return nullptr;
  });
  if (!good) return std::nullopt;
  if (!have_hash || !have_port) {
    error = have_hash ? "port is missing" : "info_hash is missing";
    return std::nullopt;
  }
  return out;
}

std::optional<std::vector<InfoHash>> parse_scrape(std::string_view query, std::string& error) {
  std::vector<InfoHash> out;
  const bool good = each_pair(query, error, [&](std::string_view key, const std::string& value) -> const char* {
    if (key != "info_hash") return nullptr;
    const auto hash = InfoHash::from(value);
    if (!hash) return "info_hash is not 20 bytes";
    if (out.size() >= max_scraped) return "more than 64 info_hash in one scrape";
    out.push_back(*hash);
    return nullptr;
  });
  if (!good) return std::nullopt;
  return out;
}

std::string announce_reply(const AnnounceQuery& query, std::span<const AnnouncedPeer> peers, const SwarmCounts& counts,
                           int interval_seconds) {
  if (query.compact) return compact_reply(peers, counts, interval_seconds);
  lt::entry reply(lt::entry::dictionary_t);
  reply["interval"] = interval_seconds;
  reply["min interval"] = interval_seconds / 4;
  reply["complete"] = counts.complete;
  reply["incomplete"] = counts.incomplete;
  reply["peers"] = lt::entry(lt::entry::list_t);
  for (const auto& peer : peers) {
    lt::entry one(lt::entry::dictionary_t);
    if (!query.no_peer_id && peer.peer_id.is_set()) one["peer id"] = std::string(peer.peer_id.view());
    one["ip"] = peer.endpoint.address().to_string();
    one["port"] = peer.endpoint.port();
    reply["peers"].list().push_back(std::move(one));
  }
  return bencoded(reply);
}

std::string scrape_reply(std::span<const std::pair<InfoHash, SwarmCounts>> swarms) {
  lt::entry reply(lt::entry::dictionary_t);
  auto& files = reply["files"];
  files = lt::entry(lt::entry::dictionary_t);
  for (const auto& [hash, counts] : swarms) {
    auto& file = files[std::string(hash.view())];
    file["complete"] = counts.complete;
    file["incomplete"] = counts.incomplete;
    file["downloaded"] = counts.downloaded;
  }
  return bencoded(reply);
}

std::string failure_reply(std::string_view reason) {
  lt::entry reply(lt::entry::dictionary_t);
  reply["failure reason"] = std::string(reason);
  return bencoded(reply);
}

}  // namespace mesh
