#include "swarm/super_seed_plugin.h"

#include <climits>
#include <libtorrent/bdecode.hpp>
#include <libtorrent/bitfield.hpp>
#include <libtorrent/entry.hpp>
#include <libtorrent/error_code.hpp>
#include <libtorrent/peer_connection.hpp>
#include <libtorrent/peer_connection_handle.hpp>
#include <map>
#include <optional>
#include <random>
#include <set>

#include "wire/socket_owner.h"

namespace mesh {
namespace {

constexpr const char* key = "ms_offers";
constexpr const char* from_key = "ms_from";
constexpr const char* window_key = "ms_window";
constexpr std::int64_t small_torrent = std::int64_t{8} << 20;
enum Offers { makes = 1, takes = 2, in_order = 4 };

/// Null where it is gone, or of another kind than the only one that this session has.
lt::tcp::socket* socket_of(const lt::peer_connection_handle& peer) {
  const auto connection = peer.native_handle();
  return connection ? boost::get<lt::tcp::socket>(&connection->get_socket()) : nullptr;
}

/// By the socket itself: libtorrent does not learn the local end of a connection that it has made.
bool is_ours(const lt::peer_connection_handle& peer) {
  auto* socket = socket_of(peer);
  return socket != nullptr && owner_of_other_end(socket->native_handle()).is == SocketOwner::Is::ours;
}

class SwarmPlugin;

class SwarmPeer final : public lt::peer_plugin {
 public:
  SwarmPeer(std::shared_ptr<SwarmPlugin> torrent, const lt::peer_connection_handle& peer, std::uint64_t id)
      : torrent_(std::move(torrent)), peer_(peer), id_(id) {
    count(1);
  }
  ~SwarmPeer() override { count(-1); }
  SwarmPeer(const SwarmPeer&) = delete;
  SwarmPeer& operator=(const SwarmPeer&) = delete;

  bool on_handshake(lt::span<char const> reserved) override;
  void add_handshake(lt::entry& handshake) override;
  bool on_extension_handshake(lt::bdecode_node const& handshake) override;
  bool on_have_all() override;
  bool on_have(lt::piece_index_t piece) override;
  bool on_dont_have(lt::piece_index_t piece) override;
  bool on_bitfield(lt::bitfield const& have) override;
  bool on_have_none() override;
  void sent_have_all() override;
  void sent_payload(int bytes) override;
  void on_disconnect(lt::error_code const& why) override;

  void passed(lt::piece_index_t piece);
  /// HAVE (BEP 3).
  void send_have(int piece) {
    const auto n = static_cast<std::uint32_t>(piece);
    const char message[9] = {0,
                             0,
                             0,
                             5,
                             4,
                             static_cast<char>(n >> 24),
                             static_cast<char>(n >> 16),
                             static_cast<char>(n >> 8),
                             static_cast<char>(n)};
    peer_.send_buffer(message, sizeof message);
  }

 private:
  void begin();
  void count(int change);
  [[nodiscard]] lt::tcp::endpoint listens_at() const {
    const auto from = peer_.remote();
    return {from.address(), listen_port_ != 0 ? static_cast<std::uint16_t>(listen_port_) : from.port()};
  }

  std::shared_ptr<SwarmPlugin> torrent_;
  lt::peer_connection_handle peer_;
  std::uint64_t id_;
  bool makes_ = false;
  bool takes_ = false;
  SuperSeedPolicy::Reading reading_;
  int listen_port_ = 0;  ///< as it said; 0: it did not
  bool offers_ = false;  ///< the peer has all pieces, and offers them
  bool told_all_ = false;
  bool begun_ = false;
  bool is_attached_ = false;
  TlsBatch::Attached tls_;
  std::optional<std::vector<bool>> have_;  ///< what the peer said that it has, until offers begin
};

class SwarmPlugin final : public lt::torrent_plugin, public std::enable_shared_from_this<SwarmPlugin> {
 public:
  explicit SwarmPlugin(SuperSeedPluginOptions wanted)
      : options(std::move(wanted)), book(options.pieces, options.piece_length, std::random_device()()) {}

  std::shared_ptr<lt::peer_plugin> new_connection(lt::peer_connection_handle const& peer) override {
    if (peer.type() != lt::connection_type::bittorrent) return nullptr;
    // Whoever connected has said which torrent it wants, and been told nothing yet. libtorrent cannot take a "no" here,
    // but it notices that the connection ends.
    if (options.for_own_user && !peer.is_outgoing() && !is_ours(peer)) {
      lt::error_code ignored;
      if (auto* socket = socket_of(peer)) socket->shutdown(lt::tcp::socket::shutdown_both, ignored);
      return nullptr;
    }
    const auto id = next_++;
    auto out = std::make_shared<SwarmPeer>(shared_from_this(), peer, id);
    peers_[id] = out;
    return out;
  }
  void on_piece_pass(lt::piece_index_t piece) override {
    for (const auto& [id, weak] : peers_)
      if (const auto peer = weak.lock()) peer->passed(piece);
    if (options.on_piece) options.on_piece();
  }
  void on_state(lt::torrent_status::state_t state) override {
    if (state == lt::torrent_status::finished || state == lt::torrent_status::seeding) is_whole_ = true;
  }
  void tick() override { make_offers(); }
  [[nodiscard]] bool takes_offers() const { return options.takes_offers && !is_whole_; }

  void make_offers() {
    for (const auto& offer : book.next(std::chrono::steady_clock::now()))
      if (const auto at = peers_.find(offer.to); at != peers_.end())
        if (const auto peer = at->second.lock()) peer->send_have(offer.piece);
  }
  void forget(std::uint64_t id) {
    peers_.erase(id);
    book.leave(id);
    // A torrent that is being removed loses all of its peers in one go.
    if (!peers_.empty()) make_offers();
  }

  const SuperSeedPluginOptions options;
  SuperSeedPolicy book;
  /// Peers that sent wrong bytes. libtorrent connects to none of them, but takes them for others when they connect from
  /// other ports.
  std::set<lt::tcp::endpoint> banned;

 private:
  bool is_whole_ = false;
  std::uint64_t next_ = 1;
  std::map<std::uint64_t, std::weak_ptr<SwarmPeer>> peers_;
};

/// One that this node connected to has answered: it is there, and somebody's.
bool SwarmPeer::on_handshake(lt::span<char const> /*reserved*/) {
  if (torrent_->options.for_own_user && !is_ours(peer_))
    peer_.disconnect(lt::errors::make_error_code(lt::errors::peer_banned), lt::operation_t::bittorrent);
  return true;
}

void SwarmPeer::count(int change) {
  if (torrent_->options.connections != nullptr) *torrent_->options.connections += change;
}

void SwarmPeer::add_handshake(lt::entry& handshake) {
  // A request behind a HAVE waits for the other side's delayed acknowledgement, 40 ms, which is much of a small file's
  // time. Of a large one it is none, and small packets that go together cost less.
  lt::error_code ignored;
  const auto connection = peer_.native_handle();
  if (connection && torrent_->options.tls != nullptr && !is_attached_)
    if (auto* stream = boost::get<lt::ssl_stream<lt::tcp::socket>>(&connection->get_socket())) {
      tls_ = torrent_->options.tls->attach(stream->handle(), stream->next_layer());
      is_attached_ = true;
    }
  if (connection && torrent_->options.pieces * torrent_->options.piece_length <= small_torrent)
    connection->get_socket().set_option(boost::asio::ip::tcp::no_delay(true), ignored);
  handshake[key] = (torrent_->options.makes_offers ? makes : 0) | (torrent_->takes_offers() ? takes : 0) |
                   (torrent_->options.reading.in_order ? in_order : 0);
  if (torrent_->options.reading.window == 0) return;
  handshake[from_key] = torrent_->options.reading.from;
  handshake[window_key] = torrent_->options.reading.window;
}

bool SwarmPeer::on_extension_handshake(lt::bdecode_node const& handshake) {
  if (handshake.type() != lt::bdecode_node::dict_t) return true;
  listen_port_ = static_cast<int>(std::clamp<std::int64_t>(handshake.dict_find_int_value("p", 0), 0, 65535));
  if (torrent_->banned.contains(listens_at())) {
    peer_.disconnect(lt::errors::make_error_code(lt::errors::peer_banned), lt::operation_t::bittorrent);
    return true;
  }
  const auto said = handshake.dict_find_int_value(key, 0);
  makes_ = (said & makes) != 0;
  takes_ = (said & takes) != 0;
  const auto number = [&](const char* name) {
    return static_cast<int>(std::clamp<std::int64_t>(handshake.dict_find_int_value(name, 0), 0, INT_MAX));
  };
  reading_ = {(said & in_order) != 0, number(from_key), number(window_key)};
  begin();
  return true;
}

bool SwarmPeer::on_have_all() {
  if (torrent_->options.on_source) torrent_->options.on_source(peer_.remote());
  offers_ = makes_ && torrent_->takes_offers();
  return offers_;
}

/// libtorrent does not tell a peer of what the peer has. Who offers must know, as that is what the next offer waits
/// for.
void SwarmPeer::passed(lt::piece_index_t piece) {
  if (offers_ && peer_.has_piece(piece)) send_have(static_cast<int>(piece));
}

void SwarmPeer::sent_have_all() {
  told_all_ = true;
  begin();
}

void SwarmPeer::begin() {
  if (begun_ || !takes_ || !told_all_ || !have_ || !torrent_->options.makes_offers) return;
  begun_ = true;
  torrent_->book.join(id_, *have_, std::chrono::steady_clock::now(), reading_);
  have_.reset();
  torrent_->make_offers();
}

bool SwarmPeer::on_have(lt::piece_index_t piece) {
  if (begun_) {
    torrent_->book.has(id_, static_cast<int>(piece), std::chrono::steady_clock::now());
    torrent_->make_offers();
  } else if (have_ && piece >= lt::piece_index_t(0) && static_cast<int>(piece) < torrent_->options.pieces) {
    (*have_)[static_cast<std::size_t>(static_cast<int>(piece))] = true;
  }
  return false;
}

bool SwarmPeer::on_dont_have(lt::piece_index_t piece) {
  if (begun_) torrent_->book.lost(id_, static_cast<int>(piece));
  return false;
}

bool SwarmPeer::on_bitfield(lt::bitfield const& have) {
  if (begun_) return false;
  have_.emplace(static_cast<std::size_t>(torrent_->options.pieces));
  for (int i = 0; i < std::min(have.size(), torrent_->options.pieces); ++i)
    (*have_)[static_cast<std::size_t>(i)] = have[i];
  begin();
  return false;
}

bool SwarmPeer::on_have_none() {
  if (begun_) return false;
  have_.emplace(static_cast<std::size_t>(torrent_->options.pieces));
  begin();
  return false;
}

void SwarmPeer::sent_payload(int bytes) {
  if (begun_ && torrent_->book.sent(id_, bytes, std::chrono::steady_clock::now())) torrent_->make_offers();
}

void SwarmPeer::on_disconnect(lt::error_code const& why) {
  if (why == lt::errors::make_error_code(lt::errors::too_many_corrupt_pieces)) torrent_->banned.insert(listens_at());
  tls_.detach();
  torrent_->forget(id_);
}

}  // namespace

std::shared_ptr<lt::torrent_plugin> make_super_seed_plugin(SuperSeedPluginOptions options) {
  return std::make_shared<SwarmPlugin>(std::move(options));
}

}  // namespace mesh
