#include "swarm/session.h"

#include <algorithm>
#include <climits>
#include <libtorrent/add_torrent_params.hpp>
#include <libtorrent/alert_types.hpp>
#include <libtorrent/ip_filter.hpp>
#include <libtorrent/peer_class.hpp>
#include <libtorrent/peer_info.hpp>
#include <libtorrent/session_params.hpp>
#include <libtorrent/settings_pack.hpp>
#include <libtorrent/torrent_info.hpp>
#include <libtorrent/torrent_status.hpp>

#include "core/address.h"
#include "core/format.h"
#include "library/maker.h"
#include "swarm/super_seed_plugin.h"
#include "version.h"
#include "wire/endpoint.h"

namespace mesh {
namespace {

/// So much is queued for a peer at least: until libtorrent knows its rate, which takes a second, at most that much.
/// Where a fast link has one peer or a few, it would stay half empty for that second.
constexpr std::size_t most_refused = 1000;
constexpr int few_queued = 16 * 1024;
int few_queued_while_ramping_up(int connections) {
  return std::clamp(3 * 1024 * 1024 / std::max(connections, 1), few_queued, 256 * 1024);
}

int rate(std::int64_t bytes) { return static_cast<int>(std::clamp<std::int64_t>(bytes, 0, INT_MAX)); }

lt::settings_pack settings(const std::string& listen, const Session::Options& options) {
  lt::settings_pack s;
  using p = lt::settings_pack;
  s.set_str(p::listen_interfaces, listen);
  s.set_str(p::user_agent, "meshswarm/" MESH_VERSION);
  s.set_str(p::peer_fingerprint, "-MS0100-");
  s.set_int(p::alert_mask, static_cast<int>(static_cast<std::uint32_t>(
                               lt::alert_category::error | lt::alert_category::status | lt::alert_category::peer)));
  s.set_int(p::alert_queue_size, 20'000);
  // A mesh is one administrative domain: nothing of it is told to, or asked of, the outside.
  for (const int off :
       {p::enable_dht, p::enable_lsd, p::enable_upnp, p::enable_natpmp, p::enable_outgoing_utp, p::enable_incoming_utp})
    s.set_bool(off, false);
  s.set_bool(p::enable_outgoing_tcp, true);
  s.set_bool(p::enable_incoming_tcp, true);
  // uTP costs three times TCP's CPU on a LAN. Obfuscation hides nothing here, and any 96 bytes of a stranger's would
  // cost two modular exponentiations.
  s.set_int(p::out_enc_policy, p::pe_disabled);
  s.set_int(p::in_enc_policy, p::pe_disabled);
  s.set_bool(p::allow_multiple_connections_per_ip, true);  // nodes may share a machine
  // Everyone may be served at once: an unchoke interval is a round trip that a LAN does not need.
  s.set_int(p::unchoke_slots_limit, -1);
  s.set_int(p::choking_algorithm, p::fixed_slots_choker);
  s.set_int(p::request_queue_time, 1);
  s.set_int(p::max_out_request_queue, 1500);
  s.set_int(p::max_allowed_in_request_queue, 4000);
  // What is queued for a peer delays every request and HAVE behind it: a twentieth of a second's data is enough
  // (docs/decisions/0010).
  s.set_int(p::send_buffer_watermark, 3 * 1024 * 1024);
  s.set_int(p::send_buffer_watermark_factor, 5);
  s.set_int(p::send_buffer_low_watermark, few_queued);
  s.set_int(p::max_queued_disk_bytes, 32 * 1024 * 1024);
  // With scheduled priorities a torrent looks finished for a while; its sources must not be dropped for it.
  s.set_bool(p::close_redundant_connections, false);
  // Who has a piece need not hear that others have it, too (who offers it does: super_seed_plugin.h).
  s.set_bool(p::send_redundant_have, false);
  s.set_int(p::connections_limit, options.max_peers);
  s.set_int(p::connection_speed, 200);
  s.set_bool(p::smooth_connects, false);
  s.set_int(p::torrent_connect_boost, 60);
  s.set_int(p::min_reconnect_time, 1);
  s.set_int(p::max_failcount, 20);
  s.set_int(p::peer_connect_timeout, 5);
  s.set_int(p::handshake_timeout, 5);
  s.set_int(p::listen_queue_size, 1000);
  s.set_int(p::max_retry_port_bind, 0);
  s.set_bool(p::rate_limit_ip_overhead, false);
  s.set_bool(p::no_atime_storage, false);
  s.set_bool(p::prioritize_partial_pieces, false);
  s.set_int(p::stop_tracker_timeout, 0);
  // Limits are dealt out once a tick: at half a second, the default, much of what they allow goes unused.
  s.set_int(p::tick_interval, 100);
  s.set_int(p::download_rate_limit, rate(options.max_down));
  s.set_int(p::upload_rate_limit, rate(options.max_up));
  return s;
}

lt::tcp::endpoint endpoint_of(const std::string& text) {
  const auto [host, port] = parse_host_port(text);
  const auto address = parse_address(host);
  if (!address) throw Error(Status::usage, printable(text) + ": is no IP address and port");
  return {*address, port};
}

lt::sha1_hash to_lt(const InfoHash& hash) { return lt::sha1_hash(hash.bytes.data()); }

}  // namespace

Torrent to_torrent(const SwarmTorrent& loaded) {
  Torrent out;
  out.id = loaded.torrent.id;
  out.infohash = loaded.torrent.infohash;
  out.size = loaded.storage->layout().size;
  out.roots = loaded.storage->wanted_roots();
  return out;
}

Session::Session(asio::io_context& io, const Options& options, Log log)
    : io_(io),
      log_(std::move(log)),
      idle_(options.idle),
      access_(options.access),
      keys_(options.access.keys),
      unauthenticated_(options.unauthenticated.value_or(UnauthenticatedConnections::Limits{})),
      watches_connections_(keys_ || options.unauthenticated) {
  auto wanted = options.listen;
  // A taken port is found by binding it once before libtorrent does, which reports it much later.
  for (int tries = 0;; ++tries) {
    boost::system::error_code ec;
    for (auto& endpoint : wanted) {
      asio::ip::tcp::acceptor probe(io_);
      probe.open(endpoint.protocol(), ec);
      if (!ec) probe.set_option(asio::ip::tcp::acceptor::reuse_address(true), ec);
      if (!ec && endpoint.address().is_v6()) probe.set_option(asio::ip::v6_only(true), ec);
      if (!ec) probe.bind(endpoint, ec);
      if (!ec) probe.listen(1, ec);
      if (ec) break;
      if (endpoint.port() == 0)
        for (auto& other : wanted) other.port(probe.local_endpoint().port());
    }
    if (!ec) break;
    if (!options.pick_free_port || tries > 100)
      throw Error(Status::failed, "cannot listen on " + to_text(wanted.front()) + ": " + ec.message());
    for (auto& endpoint : wanted) endpoint.port(static_cast<std::uint16_t>(endpoint.port() + 2));
  }
  listen_ = wanted;
  port_ = wanted.front().port();

  lt::session_params params(settings(interfaces(), options), {});
  params.disk_io_constructor = mesh_disk_constructor(registry_, loop_.moved());
  // Not smart_ban, which bans by address, and with the culprit whoever shares a machine with it: who sent a bad piece
  // alone is banned at once, and of several each has to send whole pieces alone from then on.
  session_ = std::make_unique<lt::session>(std::move(params), loop_.io());
  loop_.start([session = lt::session_handle(*session_), &connections = loop_.connections()](bool ramps_up) mutable {
    lt::settings_pack change;
    change.set_int(lt::settings_pack::send_buffer_low_watermark,
                   ramps_up ? few_queued_while_ramping_up(connections) : few_queued);
    session.apply_settings(std::move(change));
  });
  // libtorrent exempts private networks from the limits, which is all that a mesh has.
  lt::ip_filter everyone;
  const auto global = std::uint32_t{1} << static_cast<std::uint32_t>(lt::session::global_peer_class_id);
  everyone.add_rule(lt::make_address("0.0.0.0"), lt::make_address("255.255.255.255"), global);
  everyone.add_rule(lt::make_address("::"), lt::make_address("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), global);
  session_->set_peer_class_filter(everyone);
  session_->set_alert_notify([this, alive = std::weak_ptr<bool>(alive_)] {
    post_to(io_, [this, alive] {
      if (!alive.expired()) pump();
    });
  });
}

Session::~Session() {
  session_->set_alert_notify([] {});
  alive_.reset();
  const auto rest = session_->abort();
  session_.reset();
  loop_.join();
}

SwarmTorrentPtr Session::find(const ContentId& id) const {
  const auto it = torrents_.find(id);
  return it == torrents_.end() ? nullptr : it->second;
}

SwarmTorrentPtr Session::find(const lt::torrent_handle& handle) const {
  const auto it = by_infohash_.find(handle.info_hashes().v1);
  const auto found = it == by_infohash_.end() ? nullptr : find(it->second);
  // What is said late of one that was unloaded is not said of the next with the same infohash.
  return found && found->handle == handle ? found : nullptr;
}

std::vector<SwarmTorrentPtr> Session::all() const {
  std::vector<SwarmTorrentPtr> out;
  for (const auto& [id, torrent] : torrents_) out.push_back(torrent);
  return out;
}

std::shared_ptr<lt::torrent_plugin> Session::plugin_for(const SwarmTorrent& torrent) {
  SuperSeedPluginOptions options;
  options.connections = &loop_.connections();
  options.tls = &loop_.tls();
  options.pieces = torrent.storage->layout().count();
  options.piece_length = torrent.storage->layout().piece_length;
  options.takes_offers = torrent.downloading && torrent.scheduler->takes_offers();
  if (torrent.downloading)
    options.reading = {torrent.scheduler->is_ordered(), torrent.scheduler->window_begin(), torrent.scheduler->window()};
  options.makes_offers = !torrent.storage->is_bounded();
  options.for_own_user = access_.is_for_own_user();
  if (!torrent.downloading) return make_super_seed_plugin(std::move(options));
  options.on_piece = [this, id = torrent.torrent.id, file = torrent.storage, each_piece = torrent.tells_each_piece,
                      alive = std::weak_ptr<bool>(alive_)] {
    // Where pieces come in no order, nobody waits for any but the last.
    if (!*each_piece && !file->is_complete()) return;
    post_to(io_, [this, id, alive] {
      if (alive.expired()) return;
      if (const auto still = find(id)) still->changed.notify();
    });
  };
  options.on_source = [this, id = torrent.torrent.id, alive = std::weak_ptr<bool>(alive_)](const auto& endpoint) {
    post_to(io_, [this, id, endpoint, alive] {
      if (alive.expired()) return;
      if (const auto still = find(id)) still->sources.insert(endpoint);
    });
  };
  return make_super_seed_plugin(std::move(options));
}

Task<SwarmTorrentPtr> Session::load(SwarmSpec spec, const MeshKey* key, StoragePtr storage, Role role) {
  const auto torrent = std::make_shared<SwarmTorrent>(io_);
  torrent->role = role;
  torrent->torrent = std::move(spec);
  torrent->key = key;
  torrent->storage = std::move(storage);
  return take_in(torrent);
}

Task<SwarmTorrentPtr> Session::load(Role role, SwarmSpec spec, const MeshKey* key, StoragePtr storage,
                                    std::shared_ptr<PieceScheduler> scheduler) {
  const auto torrent = std::make_shared<SwarmTorrent>(io_);
  torrent->role = role;
  torrent->torrent = std::move(spec);
  torrent->key = key;
  torrent->storage = std::move(storage);
  torrent->scheduler = std::move(scheduler);
  torrent->downloading = true;
  *torrent->tells_each_piece = torrent->scheduler->is_ordered();
  return take_in(torrent);
}

Task<SwarmTorrentPtr> Session::load_standard(SwarmSpec spec, StoragePtr storage, ContentId content, bool guest) {
  const auto torrent = std::make_shared<SwarmTorrent>(io_);
  torrent->role = guest ? Role::guest : Role::standard;
  torrent->torrent = std::move(spec);
  torrent->standard_of = content;
  torrent->storage = std::move(storage);
  return take_in(torrent);
}

void Session::hang_up_on_unauthenticated() {
  if (!watches_connections_) return;
  const auto peers = [this] {
    const NetworkThread::NoPause no_pause(loop_);
    UnauthenticatedConnections::Endpoints out;
    for (const auto& [id, torrent] : torrents_) {
      if (!torrent->handle.is_valid()) continue;
      std::vector<lt::peer_info> connected;
      torrent->handle.get_peer_info(connected);
      for (const auto& peer : connected) out.insert(peer.ip);
    }
    return out;
  };
  if (const int count = unauthenticated_.hang_up(port_, UnauthenticatedConnections::Clock::now(), peers); count > 0)
    log_(warning("hung up on " + std::to_string(count) + " that connected as peers and did not " +
                 (keys_ ? "prove the mesh key" : "become any, or are too many")));
}

/// libtorrent's listen_interfaces: an s behind a port wants TLS.
std::string Session::interfaces() const {
  std::string out;
  for (const auto& endpoint : listen_) out += (out.empty() ? "" : ",") + to_text(endpoint) + (keys_ ? "s" : "");
  return out;
}

/// `torrent`, or the one that is loaded already in its place, when libtorrent knows it.
Task<SwarmTorrentPtr> Session::take_in(SwarmTorrentPtr torrent) {
  const auto id = torrent->torrent.id;
  SwarmTorrentPtr loaded = find(id);
  if (loaded && torrent->downloading) {
    // A seed whose file is not what is wanted here: the download takes its place.
    if (loaded->downloading) throw Error(Status::failed, "is being downloaded already");
    unload(id);
    loaded = nullptr;
  }
  if (!loaded) {
    // One that was unloaded before libtorrent had taken it in is still on its way there.
    while (leaving_.contains(to_lt(torrent->torrent.infohash))) co_await sleep_for(std::chrono::milliseconds(5));
    if (find(id)) throw Error(Status::failed, "is being loaded otherwise");
    loaded = std::move(torrent);

    lt::error_code ec;
    lt::add_torrent_params params;
    const auto& info = loaded->torrent.info;
    const std::string file = "d4:info" + info + "e";
    params.ti = std::make_shared<lt::torrent_info>(
        lt::span<char const>(file.data(), static_cast<std::ptrdiff_t>(file.size())), ec, lt::from_span);
    if (ec) throw Error(Status::failed, "libtorrent refuses the torrent: " + ec.message());
    params.save_path = ".";
    // Added paused: connecting begins with `introduce`, when peers are known and can be tried at once.
    params.flags = lt::torrent_flags::paused | lt::torrent_flags::disable_dht | lt::torrent_flags::disable_lsd |
                   lt::torrent_flags::need_save_resume;
    const auto verified = loaded->storage->verified();
    params.have_pieces.resize(static_cast<int>(verified.size()));
    for (std::size_t i = 0; i < verified.size(); ++i)
      if (verified[i] != 0) params.have_pieces.set_bit(lt::piece_index_t(static_cast<int>(i)));
    for (const auto& [piece, blocks] : loaded->storage->unfinished()) {
      lt::bitfield here(static_cast<int>(blocks.size()));
      for (std::size_t i = 0; i < blocks.size(); ++i)
        if (blocks[i]) here.set_bit(static_cast<int>(i));
      params.unfinished_pieces[lt::piece_index_t(piece)] = std::move(here);
    }
    params.extensions.emplace_back(
        [made = plugin_for(*loaded)](lt::torrent_handle const&, lt::client_data_t) { return made; });
    torrents_[loaded->torrent.id] = loaded;
    by_infohash_[to_lt(loaded->torrent.infohash)] = loaded->torrent.id;
    registry_->put(to_lt(loaded->torrent.infohash), loaded->storage);
    session_->async_add_torrent(std::move(params));
    hurry();
  }
  while (!loaded->checked && loaded->error.empty() && find(id) == loaded) co_await loaded->changed.wait();
  if (!loaded->checked) {
    if (find(id) == loaded) unload(id);
    throw Error(Status::failed, loaded->error.empty() ? "was unloaded while it was loaded" : loaded->error);
  }
  co_return loaded;
}

void Session::unload(const ContentId& id) {
  const auto it = torrents_.find(id);
  if (it == torrents_.end()) return;
  const auto torrent = it->second;
  if (torrent->handle.is_valid())
    session_->remove_torrent(torrent->handle);
  else if (torrent->error.empty())
    leaving_.insert(to_lt(torrent->torrent.infohash));
  registry_->remove(to_lt(torrent->torrent.infohash));
  by_infohash_.erase(to_lt(torrent->torrent.infohash));
  torrents_.erase(it);
  hurry();
  torrent->changed.notify();
  if (on_unloaded) on_unloaded(id);
}

void Session::connect(SwarmTorrent& torrent, const std::vector<std::string>& peers) {
  for (const auto& text : peers) {
    try {
      torrent.handle.connect_peer(endpoint_of(text), lt::peer_info::tracker);
    } catch (const std::exception&) {
      // Not an address: a tracker of another version.
    }
  }
}

void Session::introduce(const SwarmTorrentPtr& torrent, const Introduced& introduced) {
  for (const auto& text : introduced.sources) {
    try {
      torrent->sources.insert(endpoint_of(text));
    } catch (const std::exception&) {
    }
  }
  // Resuming a paused torrent connects at once to the peers that it knows; otherwise they wait for libtorrent's next
  // tick, up to a second.
  const NetworkThread::NoPause no_pause(loop_);
  const bool fresh = static_cast<bool>(torrent->handle.flags() & lt::torrent_flags::paused);
  connect(*torrent, introduced.peers);
  torrent->self = introduced.self;
  if (torrent->scheduler) torrent->scheduler->set_getters(torrent->self, introduced.getters);
  schedule(*torrent);
  if (fresh) torrent->handle.resume();
  torrent->last_needed = SwarmTorrent::Clock::now();
}

void Session::set_getters(const ContentId& id, const std::vector<std::uint64_t>& getters) {
  const auto torrent = find(id);
  if (!torrent || !torrent->scheduler) return;
  torrent->scheduler->set_getters(torrent->self, getters);
  schedule(*torrent);
}

void Session::schedule(SwarmTorrent& torrent) {
  if (!torrent.scheduler) return;
  *torrent.tells_each_piece = torrent.scheduler->is_ordered();
  if (!torrent.scheduler->is_at_work()) return;
  const NetworkThread::NoPause no_pause(loop_);
  const auto verified = torrent.storage->verified();
  std::vector<bool> have(verified.size());
  for (std::size_t i = 0; i < verified.size(); ++i) have[i] = verified[i] != 0;
  std::vector<int> availability;
  torrent.handle.piece_availability(availability);
  std::vector<std::pair<lt::piece_index_t, lt::download_priority_t>> changes;
  for (const auto& [piece, priority] : torrent.scheduler->update(have, availability))
    changes.emplace_back(lt::piece_index_t(piece), lt::download_priority_t(priority));
  if (!changes.empty()) torrent.handle.prioritize_pieces(changes);
}

void Session::limit(SwarmTorrent& torrent, std::int64_t down, std::int64_t up) {
  if (torrent.max_down == down && torrent.max_up == up) return;
  torrent.max_down = down;
  torrent.max_up = up;
  torrent.handle.set_download_limit(down > 0 ? rate(down) : -1);
  torrent.handle.set_upload_limit(up > 0 ? rate(up) : -1);
}

void Session::refresh(SwarmTorrent& torrent) {
  if (!torrent.handle.is_valid()) return;
  const NetworkThread::NoPause no_pause(loop_);
  const auto status = torrent.handle.status({});
  torrent.peers = status.num_peers;
  torrent.sources_connected = status.num_seeds;
  torrent.down_rate = status.download_payload_rate;
  torrent.up_rate = status.upload_payload_rate;
  torrent.sent = status.total_payload_upload;
  torrent.got = status.total_payload_download;
  torrent.got_wrong = status.total_failed_bytes;
  if (torrent.downloading) {
    std::vector<lt::peer_info> peers;
    torrent.handle.get_peer_info(peers);
    for (const auto& peer : peers) {
      auto& bytes = torrent.received[peer.ip];
      bytes = std::max(bytes, static_cast<std::int64_t>(peer.total_download));
    }
    const auto verified = torrent.storage->verified();
    torrent.pieces_have = static_cast<int>(std::ranges::count(verified, '\1'));
    const auto pieces = static_cast<int>(verified.size());
    torrent.at_an_end = torrent.pieces_have * 8 < pieces || torrent.pieces_have * 16 > pieces * 15;
  }
  hurry();
}

/// While a torrent is loaded, and while the first pieces are on their way, or the last, each round trip is a part of
/// the whole.
void Session::hurry() {
  int downloads = 0, at_an_end = 0, loading = 0;
  for (const auto& [id, torrent] : torrents_) {
    loading += !torrent->checked && torrent->error.empty() ? 1 : 0;
    downloads += torrent->downloading ? 1 : 0;
    at_an_end += torrent->downloading && torrent->at_an_end ? 1 : 0;
  }
  const bool wanted = loading > 0 || (downloads > 0 && at_an_end == downloads);
  if (wanted != hurry_.has_value()) wanted ? static_cast<void>(hurry_.emplace(loop_)) : hurry_.reset();
}

void Session::resume(SwarmTorrent& torrent) {
  torrent.error.clear();
  torrent.error_code = 0;
  torrent.handle.clear_error();
  // A failed write puts a torrent into upload mode, which only an auto-managed one leaves by itself.
  torrent.handle.unset_flags(lt::torrent_flags::upload_mode);
  torrent.handle.resume();
}

void Session::seed(const SwarmTorrentPtr& torrent) {
  torrent->downloading = false;
  torrent->scheduler.reset();
  // One of which nothing was missing has entered no swarm, and is paused still.
  if (torrent->handle.is_valid()) torrent->handle.resume();
  hurry();
  torrent->last_needed = SwarmTorrent::Clock::now();
}

/// Whether a peer wants something of it.
bool Session::is_wanted(const SwarmTorrent& torrent) {
  std::vector<lt::peer_info> peers;
  torrent.handle.get_peer_info(peers);
  return std::ranges::any_of(peers, [](const lt::peer_info& peer) {
    return static_cast<bool>(peer.flags & lt::peer_info::remote_interested);
  });
}

void Session::unload_idle() {
  const NetworkThread::NoPause no_pause(loop_);
  const auto now = SwarmTorrent::Clock::now();
  for (const auto& torrent : all()) {
    if (torrent->downloading || torrent->role == Role::guest || !torrent->checked) continue;
    if (is_wanted(*torrent)) torrent->last_needed = now;
    if (now - torrent->last_needed > idle_) unload(torrent->torrent.id);
  }
}

std::int64_t Session::pack_bytes() const {
  std::int64_t out = 0;
  for (const auto& torrent : all())
    if (torrent->role == Role::pack && !torrent->downloading) out += torrent->storage->layout().size;
  return out;
}

std::int64_t Session::shrink_packs(std::int64_t most, bool wanted_too) {
  std::int64_t out = pack_bytes();
  if (out <= most) return out;
  std::vector<SwarmTorrentPtr> packs;
  for (const auto& torrent : all())
    if (torrent->role == Role::pack && !torrent->downloading) packs.push_back(torrent);
  std::ranges::sort(packs, {}, &SwarmTorrent::last_needed);
  const NetworkThread::NoPause no_pause(loop_);
  for (const bool wanted : {false, true}) {
    if (wanted && !wanted_too) break;
    for (const auto& torrent : packs) {
      if (out <= most) return out;
      if (find(torrent->torrent.id) != torrent || !torrent->checked || is_wanted(*torrent) != wanted) continue;
      out -= torrent->storage->layout().size;
      unload(torrent->torrent.id);
    }
  }
  return out;
}

void Session::pump() {
  std::vector<lt::alert*> alerts;
  session_->pop_alerts(&alerts);
  for (auto* alert : alerts) handle(alert);
}

/// A TLS handshake with a peer came to nothing: once a minute for each address, as anybody can bring that about.
void Session::say_refused(const lt::tcp::endpoint& peer, const lt::error_code& why) {
  // Who hangs up at once, or says nothing, is no member.
  if (why == boost::asio::error::eof || why == boost::asio::error::operation_aborted ||
      why == boost::asio::error::connection_reset || why == lt::errors::make_error_code(lt::errors::timed_out))
    return;
  const auto now = SwarmTorrent::Clock::now();
  if (refused_.size() >= most_refused) refused_.clear();
  auto& said = refused_[peer.address()];
  if (said && now - *said < std::chrono::minutes(1)) return;
  said = now;
  log_(warning("peer " + to_text(peer) + ": no TLS connection: " + why.message()).of("refused").by(to_text(peer)));
}

void Session::handle(lt::alert* alert) {
  if (const auto* added = lt::alert_cast<lt::add_torrent_alert>(alert)) {
    const auto infohash = added->params.ti->info_hashes().v1;
    const auto known = by_infohash_.find(infohash);
    const auto torrent = known == by_infohash_.end() ? nullptr : find(known->second);
    if (leaving_.erase(infohash) > 0 || !torrent) {
      if (added->handle.is_valid()) session_->remove_torrent(added->handle);
      return;
    }
    torrent->handle = added->handle;
    // Before anybody is connected: it is added paused.
    if (const auto* key = torrent->key; key != nullptr && !added->error)
      torrent->handle.set_ssl_certificate_buffer(key->certificate, key->private_key, dh_parameters());
    if (added->error) torrent->error = added->error.message();
    hurry();
    torrent->changed.notify();
  } else if (const auto* checked = lt::alert_cast<lt::torrent_checked_alert>(alert)) {
    if (const auto torrent = find(checked->handle)) {
      torrent->checked = true;
      if (!torrent->downloading) torrent->handle.resume();  // a seed waits for others to connect
      hurry();
      torrent->changed.notify();
    }
  } else if (const auto* failed = lt::alert_cast<lt::hash_failed_alert>(alert)) {
    if (const auto torrent = find(failed->handle)) {
      ++torrent->hash_failures;
      ++pieces_failed_;
      log_(warning("piece " + std::to_string(static_cast<int>(failed->piece_index)) + " of " +
                   torrent->torrent.id.hex().substr(0, 12) + " failed its hash; it is asked for again")
               .of("piece-failed", torrent->path));
    }
  } else if (const auto* ban = lt::alert_cast<lt::peer_ban_alert>(alert)) {
    // Of what it had on the way several pieces may turn out bad.
    if (const auto torrent = find(ban->handle); torrent && torrent->banned.insert(ban->endpoint).second)
      log_(warning("peer " + to_text(ban->endpoint) + " sent wrong bytes of " +
                   torrent->torrent.id.hex().substr(0, 12) + "; it is banned from this swarm")
               .of("wrong-bytes", torrent->path)
               .by(to_text(ban->endpoint)));
  } else if (const auto* file_error = lt::alert_cast<lt::file_error_alert>(alert)) {
    // A peer asked for what a spool dropped: libtorrent tells it, and nothing is wrong.
    const bool dropped = file_error->error == boost::system::errc::no_message_available;
    if (const auto torrent = find(file_error->handle); torrent && !dropped) {
      torrent->error = file_error->error.message();
      torrent->error_code = file_error->error.value();
      torrent->changed.notify();
    }
  } else if (const auto* error = lt::alert_cast<lt::torrent_error_alert>(alert)) {
    if (const auto torrent = find(error->handle)) {
      if (torrent->error.empty()) torrent->error = error->error.message();
      torrent->changed.notify();
    }
  } else if (const auto* refused = lt::alert_cast<lt::peer_error_alert>(alert)) {
    if (refused->op == lt::operation_t::ssl_handshake) say_refused(refused->endpoint, refused->error);
  } else if (const auto* hung_up = lt::alert_cast<lt::peer_disconnected_alert>(alert)) {
    if (hung_up->op == lt::operation_t::ssl_handshake) say_refused(hung_up->endpoint, hung_up->error);
  } else if (const auto* listen = lt::alert_cast<lt::listen_failed_alert>(alert)) {
    log_(failure("cannot listen: " + listen->message()));
  }
}

}  // namespace mesh
