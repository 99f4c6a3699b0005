// A node as the others meet it: what it says of itself, the channels that it opens and serves, and what of them is
// wired to what.
#include <algorithm>

#include "core/address.h"
#include "core/format.h"
#include "mesh/gossip.h"
#include "mesh/node_channels.h"
#include "mesh/path_index.h"
#include "node/node.h"
#include "node/own_addresses.h"
#include "node/own_identity.h"
#include "serve/block_teller.h"
#include "serve/guests.h"
#include "serve/mount_teller.h"
#include "serve/range_teller.h"
#include "serve/seeder.h"
#include "transfer/transfers.h"
#include "wire/announce.h"
#include "wire/endpoint.h"
#include "wire/server.h"

namespace mesh {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

namespace {

constexpr std::size_t most_notice_bytes = 500;
constexpr std::size_t most_calls = 100;  // to nodes that cannot reach this one
constexpr std::size_t most_calls_to_one = 3;
constexpr std::size_t most_call_addresses = 32;

}  // namespace

std::unique_ptr<TrackerLinks> Node::make_links() {
  TrackerLinks::Facts facts;
  facts.hello = [this] { return hello(); };
  facts.prove = [this](const Channel& channel) { return identity_->prove(Hello::name, channel.binding()); };
  facts.page = [this](std::string_view after, std::size_t limit) { return library_->inventory().page(after, limit); };
  facts.scan_complete = [this] { return library_->inventory().is_complete(); };
  facts.loaded = [this] {
    std::vector<JoinSwarm> out;
    for (const auto& torrent : session_->all())
      if (torrent->checked) out.push_back(to_message(*torrent));
    return out;
  };
  facts.welcomed = [this](const Welcome& welcome) { gossip_->welcomed(welcome); };
  facts.taken = [this](const std::string& instance, const Welcome& told) { rivals_.hear(instance, told.rival); };
  if (options_.embedded_tracker) facts.fallback = [this](milliseconds limit) { return index_->open(limit); };
  facts.is_alone = [this] { return options_.peers.empty() && !options_.discover && gossip_->members().size() == 0; };
  facts.log = log_;
  facts.access = options_.access();
  return std::make_unique<TrackerLinks>(io_, options_.trackers, std::move(facts), tracker_handlers_);
}

std::unique_ptr<Gossip> Node::make_gossip() {
  constexpr const char* note = "members";
  Gossip::Options options;
  options.name = options_.name;
  options.peers = options_.peers;
  options.discover = options_.discover;
  options.may_keep = options_.embedded_tracker && !options_.linger_seconds;
  options.access = options_.access();
  Gossip::Facts facts;
  facts.hello = [this] { return hello(); };
  facts.recall = [this] { return library_->db().find_note(note); };
  facts.remember = [this](const std::string& text) { library_->db().put_note(note, text); };
  facts.identity = [this] { return identity_; };
  facts.rivals = &rivals_;
  facts.log = log_;
  return std::make_unique<Gossip>(*workers_, std::move(options), std::move(facts), mesh_handlers_);
}

std::unique_ptr<PathIndex> Node::make_index() {
  if (!options_.embedded_tracker) return nullptr;
  PathIndex::Options options;
  options.name = options_.name;
  options.embedded_tracker = options_.embedded_tracker;
  options.access = options_.access();
  if (options_.linger_seconds) options.tells_after = seconds(2);
  PathIndex::Facts facts;
  facts.hello = [this] { return hello(); };
  facts.prove = [this](const Channel& channel) { return identity_->prove(Hello::name, channel.binding()); };
  facts.scan_complete = [this] { return library_->inventory().is_complete(); };
  facts.page = [this](std::string_view after, std::size_t limit) { return library_->inventory().page(after, limit); };
  facts.list = [this](std::string_view directory, std::string_view after, std::size_t limit) {
    return library_->inventory().in_directory(directory, after, limit);
  };
  facts.find = [this](std::string_view path) -> std::optional<FileEntry> {
    const auto* item = library_->inventory().find(path);
    return item == nullptr ? std::nullopt : std::optional(item->entry);
  };
  facts.prove_itself = [this](const Channel& channel, Welcome& welcome) {
    welcome.public_key = identity_->public_key();
    welcome.proof = identity_->prove(Welcome::name, channel.binding());
  };
  facts.taken = [this](const std::string& instance, const Welcome& told) { rivals_.hear(instance, told.rival); };
  facts.introduced = [this](const ContentId& id, const Introduced& others) {
    const auto torrent = session_->find(id);
    if (!torrent || !torrent->checked) return;
    if (torrent->role == Role::provisional)
      session_->introduce(torrent, others);
    else
      session_->connect(*torrent, others.peers);
  };
  facts.log = log_;
  return std::make_unique<PathIndex>(*workers_, std::move(options), std::move(facts), *gossip_, *links_,
                                     tracker_handlers_, mesh_handlers_);
}

/// Announces of other clients: of guests, of what this node is asked for, and of swarms that it keeps or knows who
/// does.
Task<HttpReply> Node::serve_http(std::string target, asio::ip::address remote, asio::ip::address local) {
  if (guests_->is_for(target) || !index_) co_return co_await guests_->serve_http(std::move(target), local);
  std::string_view path = std::string_view(target).substr(0, target.find('?'));
  if (options_.keys && path != "/announce") {
    // /TOKEN/announce, as at a tracker.
    const auto slash = path.find('/', 1);
    if (slash == std::string_view::npos || !options_.keys->is_token(path.substr(1, slash - 1)))
      co_return co_await guests_->serve_http(std::move(target), local);
    path.remove_prefix(slash);
  } else if (options_.keys) {
    co_return co_await guests_->serve_http(std::move(target), local);
  }
  const auto mark = std::min(target.find('?'), target.size());
  std::string query = target.substr(std::min(mark + 1, target.size()));
  std::string fault;
  const auto asked = parse_announce(query, fault);
  if (path != "/announce" || !asked) co_return co_await guests_->serve_http(std::move(target), local);
  HttpReply reply;
  reply.body = co_await index_->announce(std::move(query), asked->infohash, remote);
  co_return reply;
}

/// To one that may send others here for what this node has been told.
NodeRef Node::as_teller() const {
  NodeRef out;
  if (options_.linger_seconds) return out;  // for a moment
  out.name = options_.name;
  out.instance = identity_->instance();
  out.channel_port = server_->local().port();
  return out;
}

Hello Node::hello() const {
  const auto& options = options_;
  Hello out;
  out.version = protocol_version;
  out.instance = identity_->instance();
  out.public_key = identity_->public_key();
  out.node = options.name;
  out.advertised = !options.advertise.empty();
  out.addresses = out.advertised ? options.advertise : own_addresses();
  if (!options.listen.empty() && !out.advertised) {
    // Bound to one address: that is the one.
    boost::system::error_code ec;
    const auto address = asio::ip::make_address(parse_host_port(options.listen, default_peer_port).host, ec);
    if (!ec && !address.is_unspecified()) {
      out.addresses = {address.to_string()};
      out.advertised = true;
    }
  }
  // Only where it listens: at IPv4 addresses alone, say.
  const auto listens = server_->local().address();
  out.v4_only = listens.is_v4();
  if (!out.advertised)
    std::erase_if(out.addresses, [&](const std::string& text) { return out.v4_only && text.find(':') != text.npos; });
  out.peer_port = session_->port();
  out.channel_port = server_->local().port();
  out.head = options.head;
  out.run = rivals_.run();
  out.rival_run = rivals_.later();
  out.rival = rivals_.claim_to(out.rival_run);
  out.former = former_;
  return out;
}

/// Somebody cannot reach this node's channel, and asks on the one that this node opens to him. What he says becomes a
/// part of a request over HTTP.
Task<void> Node::call(Call asked) {
  if (asked.addresses.empty() || !is_call_token(asked.token)) co_return;
  if (asked.addresses.size() > most_call_addresses) asked.addresses.resize(most_call_addresses);
  // Who is called decides how long he listens.
  const auto caller = to_text(asked.addresses.front(), asked.channel_port);
  if (calls_.size() >= most_calls || calls_.count(caller) >= most_calls_to_one) co_return;
  const auto here = calls_.insert(caller);
  const std::shared_ptr<void> counted(nullptr, [this, here](void*) { calls_.erase(here); });
  for (const auto& address : asked.addresses) {
    ChannelPtr channel;
    try {
      channel = co_await connect_channel(to_text(address, asked.channel_port), "/call/" + asked.token, seconds(3),
                                         options_.access());
    } catch (const Error&) {
      // The next one may lead there.
    }
    if (!channel) continue;
    channels_.insert(channel);
    co_await channel->run(mesh_handlers_);
    channels_.erase(channel);
    co_return;
  }
}

Task<void> Node::serve_channel(std::string path, ChannelPtr channel, const Handlers& handlers) {
  const bool command = &handlers == &command_handlers_;
  using Wanted = PathIndex::Wanted;
  const auto wanted = command || !index_ ? Wanted::nothing : index_->wanted(path);
  constexpr std::string_view calls = "/call/";
  const bool called = !command && path.starts_with(calls) && node_channels_->called(path.substr(calls.size()), channel);
  if (!command && wanted == Wanted::nothing && !called && path != "/node") co_return;
  if (command) ++commands_;
  was_asked_ = was_asked_ || command;
  channels_.insert(channel);
  if (wanted == Wanted::index) {
    co_await index_->serve(channel);
  } else if (wanted == Wanted::registration) {
    links_->adopt(channel, false);
    co_await channel->run(tracker_handlers_);
  } else if (command && path.starts_with(MountTeller::descriptors)) {
    co_await mounts_->take(path.substr(MountTeller::descriptors.size()), channel);
  } else {
    co_await channel->run(handlers);
    if (command) mounts_->is_over(channel);
  }
  channels_.erase(channel);
  if (command) {
    --commands_;
    needed_ = Clock::now();
  }
}

void Node::serve_mesh() {
  seeder_->serve(mesh_handlers_);
  block_teller_->serve(mesh_handlers_);
  range_teller_->serve(mesh_handlers_);
  mesh_handlers_.on<PresenceAsk>([this](ChannelPtr, PresenceAsk asked) -> Task<PresenceAsk::Reply> {
    PresenceAsk::Reply out;
    out.rival = rivals_.claim_to(asked.run);
    rivals_.hear(identity_->instance(), asked.rival);
    co_return out;
  });
  mesh_handlers_.on_note<Notice>([this](const ChannelPtr& channel, const Notice& notice) {
    log_(warning(channel->where() + " says: " + printable(std::string_view(notice.text).substr(0, most_notice_bytes)))
             .of("notice")
             .by(channel->where()));
  });
  mesh_handlers_.on_note<UrlMembers>(
      [this](const ChannelPtr&, UrlMembers now) { session_->set_getters(now.id, now.getters); });
  mesh_handlers_.on_note<ConnectTo>([this](const ChannelPtr&, ConnectTo meet) {
    if (const auto torrent = session_->find(meet.id); torrent && torrent->checked)
      session_->connect(*torrent, meet.peers);
  });
  mesh_handlers_.on<GlanceAsk>([this](ChannelPtr, GlanceAsk asked) -> Task<Glances> {
    Glances out;
    out.nodes.push_back(glance(asked.hour));
    co_return out;
  });
  mesh_handlers_.on<StatusAsk>([this](ChannelPtr, StatusAsk) -> Task<StatusReply> {
    StatusReply out;
    out.nodes.push_back(status());
    co_return out;
  });
}

}  // namespace mesh
