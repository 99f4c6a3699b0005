#include "tracker.h"

#include <algorithm>

#include "core/address.h"
#include "core/format.h"
#include "wire/endpoint.h"

namespace mesh {
namespace {

constexpr std::size_t most_query_bytes = 4096;  // of an announce that another node hands on

}  // namespace

Tracker::Tracker(asio::io_context& io, TrackerOptions options)
    : options_(std::move(options)),
      members_(io, options_.access.keys, options_.role),
      lookup_(io, members_, options_.max_paths, &options_.beyond),
      announced_(options_.max_announced_peers, std::chrono::seconds(2 * announce_interval)),
      swarms_(io, members_, lookup_, announced_, &options_.beyond),
      packs_(io, members_, lookup_, swarms_),
      bittorrent_(members_, lookup_, swarms_, announced_, options_.max_announces),
      fan_out_(io, members_, &options_.beyond) {
  if (options_.role == Members::Role::keeper)
    index_ = std::make_unique<DirectoryIndex>(members_, options_.keepers, options_.index);
  handlers_ = index_ ? make_keeper_handlers() : make_handlers();
  connect_rooms();
  if (!options_.listen) return;
  const auto on_channel = [this](std::string path, ChannelPtr channel) -> Task<void> {
    if (path == "/control") co_await serve(std::move(channel));
  };
  const auto on_http = [this](std::string target, asio::ip::address remote, asio::ip::address) {
    return serve_http(std::move(target), remote);
  };
  const auto on_http_now = [this](std::string_view target, const asio::ip::address& remote) {
    return answer_now(target, remote);
  };
  server_.emplace(io, *options_.listen, on_http, on_channel, options_.connections, options_.access, on_http_now);
}

void Tracker::connect_rooms() {
  members_.on_left = [this](NodeKey node) {
    lookup_.forget(node);
    urls_.leave(node);
    swarms_.leave_all(node);
    if (index_) index_->left(node);
  };
  members_.on_rested = [this](NodeKey node) {
    if (index_) index_->left(node);
  };
  members_.on_view_over = [this] { lookup_.forget_told(); };
  if (options_.beyond.visit)
    members_.visit = [this, &io = members_.executor()](NodeRef node) -> Task<ChannelPtr> {
      const ChannelPtr channel = co_await options_.beyond.visit(std::move(node));
      spawn(io, serve(channel));
      co_return channel;
    };
  lookup_.on_hashed = [this](const ContentId& id) { swarms_.tell_members_soon(id); };
}

/// What is said of swarms and URLs, here and to a keeper.
void Tracker::serve_swarms(Handlers& h) {
  h.on<Hello>([this](ChannelPtr channel, Hello hello) -> Task<Welcome> {
    members_.check(channel, hello);
    const auto refused = co_await members_.refusal(hello);
    if (refused) co_return *refused;
    if (!channel->is_open()) throw Error(Status::unreachable, channel->where() + ": is gone");
    Welcome welcome = members_.enlist(channel, std::move(hello));
    if (options_.prove) options_.prove(*channel, welcome);
    co_return welcome;
  });
  h.on<JoinSwarm>(
      [this](ChannelPtr channel, JoinSwarm question) { return swarms_.introduce(std::move(channel), question); });
  h.on_note<Unloaded>([this](const ChannelPtr& channel, const Unloaded& note) {
    if (const auto* node = members_.of(channel)) swarms_.leave(node->key, note.id);
  });
  h.on<OriginReport>([this](ChannelPtr channel, OriginReport said) -> Task<OriginAssignment> {
    const auto* node = members_.of(channel);
    if (node == nullptr) throw Error(Status::refused, "only a registered node can get a URL with others");
    if (options_.beyond.turn) co_return co_await options_.beyond.turn(std::move(said));
    co_return urls_.turn(node->key, said, UrlPlans::Clock::now());
  });
}

/// A keeper's: what nodes have in its directories, and their swarms; the questions that need more are for views.
Handlers Tracker::make_keeper_handlers() {
  Handlers h;
  serve_swarms(h);
  h.on<IndexTell>(
      [this](ChannelPtr channel, IndexTell said) { return index_->tell(std::move(channel), std::move(said)); });
  h.on<IndexAsk>(
      [this](ChannelPtr channel, IndexAsk question) { return index_->ask(std::move(channel), std::move(question)); });
  h.on<AnnounceAsk>([this](ChannelPtr channel, AnnounceAsk asked) -> Task<Announced> {
    const auto client = parse_address(asked.address);
    const auto* asker = members_.of(channel);
    const auto is_near = [](const asio::ip::address& address) {
      return address.is_loopback() || address.is_unspecified();
    };
    if (asker == nullptr || !client || !is_of_a_host(*client) || asked.query.size() > most_query_bytes ||
        (client->is_loopback() && !is_near(asker->seen)))
      throw Error(Status::refused, "no sensible announce");
    // Whose clients they are is its word alone.
    if (!handed_on_.take(asker->hello.instance, std::chrono::steady_clock::now()))
      throw Error(Status::refused, "hands on too many announces");
    Announced out;
    out.body = co_await bittorrent_.announce(std::move(asked.query), *client);
    co_return out;
  });
  h.on<IndexRest>([this](ChannelPtr channel, IndexRest) -> Task<IndexRest::Reply> {
    index_->rest(channel);
    members_.rest(channel, options_.index.rest_lease);
    co_return IndexRest::Reply{};
  });
  return h;
}

Handlers Tracker::make_handlers() {
  Handlers h;
  serve_swarms(h);
  h.on_note<InventoryDelta>(
      [this](const ChannelPtr& channel, const InventoryDelta& delta) { lookup_.take_inventory(channel, delta); });
  h.on<Resolve>([this](ChannelPtr channel, Resolve question) {
    return lookup_.resolve(std::move(channel), std::move(question));
  });
  h.on<Locate>(
      [this](ChannelPtr channel, Locate question) { return lookup_.locate(std::move(channel), std::move(question)); });
  h.on<List>([this](ChannelPtr, List question) { return lookup_.list(std::move(question)); });
  h.on<Info>([this](ChannelPtr, Info question) { return lookup_.info(std::move(question)); });
  h.on<PrepareSwarm>([this](ChannelPtr channel, PrepareSwarm question) {
    return swarms_.join(std::move(channel), std::move(question));
  });
  h.on<PreparePack>([this](ChannelPtr channel, PreparePack question) {
    return packs_.prepare(std::move(channel), std::move(question));
  });
  h.on<CallBack>([this](ChannelPtr channel, CallBack asked) -> Task<CallBack::Reply> {
    const auto* asker = members_.of(channel);
    const auto* other = members_.of_instance(asked.node);
    if (asker == nullptr || other == nullptr || other == asker || !is_call_token(asked.token))
      throw Error(Status::refused, "nobody to be called back by");
    Call call;
    call.addresses = Members::addresses(*asker, other->seen);
    call.channel_port = asker->hello.channel_port;
    call.token = asked.token;
    members_.tell(other->key, call);
    co_return CallBack::Reply{};
  });
  h.on<Relay>([this](ChannelPtr channel, Relay asked) { return fan_out_.relay(std::move(channel), std::move(asked)); });
  h.on<StatusAsk>([this](ChannelPtr, StatusAsk) { return fan_out_.status(); });
  h.on<GlanceAsk>([this](ChannelPtr, GlanceAsk asked) { return fan_out_.glance(asked); });
  h.on<TorrentAsk>([this](ChannelPtr channel, TorrentAsk question) -> Task<TorrentFile> {
    if (options_.access.keys)
      throw Error(Status::refused, printable(question.path) +
                                       ": other clients have no key to this mesh; on a node that has it, --for 1h "
                                       "makes a guest torrent");
    TorrentFile out = co_await bittorrent_.make_torrent(channel, question.path);
    if (!server_) co_return out;  // nobody could announce to it
    // This tracker, as the asker reached it.
    const auto here = channel->local();
    out.trackers.push_back(here.empty() ? to_text(server_->local()) : here);
    co_return out;
  });
  return h;
}

Task<void> Tracker::serve(ChannelPtr channel) {
  members_.opened(channel);
  co_await channel->run(handlers_);
  members_.closed(channel);
}

Tracker::Counts Tracker::counts() const {
  const auto registered =
      std::ranges::count_if(members_.all(), [](const auto& pair) { return pair.second.registered; });
  return {members_.size(), static_cast<std::size_t>(registered), lookup_.path_count(), lookup_.copy_count(),
          swarms_.size()};
}

std::string Tracker::health() const {
  const auto now = counts();
  return "ok nodes=" + std::to_string(now.nodes) + " registered=" + std::to_string(now.registered) +
         " paths=" + std::to_string(now.paths) + " copies=" + std::to_string(now.copies) +
         " swarms=" + std::to_string(now.swarms) + "\n";
}

std::optional<HttpReply> Tracker::answer_now(std::string_view target, const asio::ip::address& remote) {
  HttpReply reply;
  if (options_.access.keys) {
    // /TOKEN/announce. Without the token there is nothing to be learnt here but that it runs.
    if (target == "/healthz") {
      reply.body = "ok\n";
      return reply;
    }
    const auto slash = target.find('/', 1);
    if (slash == std::string_view::npos || !options_.access.keys->is_token(target.substr(1, slash - 1)))
      return HttpReply{403, "this mesh has a key\n"};
    target.remove_prefix(slash);
  }
  const auto mark = std::min(target.find('?'), target.size());
  const auto path = target.substr(0, mark);
  const auto query = target.substr(std::min(mark + 1, target.size()));
  if (path == "/announce") {
    auto answer = bittorrent_.announce_now(query, remote);
    if (!answer) return std::nullopt;
    reply.body = std::move(*answer);
  } else if (path == "/scrape") {
    reply.body = bittorrent_.scrape(query, remote);
  } else if (path == "/healthz") {
    reply.body = health();
  } else {
    reply = {404, "not found; this tracker serves /announce, /scrape, /healthz and the channel /control\n"};
  }
  return reply;
}

Task<std::string> Tracker::announce(std::string query, asio::ip::address remote) {
  co_return co_await bittorrent_.announce(std::move(query), remote);
}

Task<HttpReply> Tracker::serve_http(std::string target, asio::ip::address remote) {
  if (auto reply = answer_now(target, remote)) co_return std::move(*reply);
  HttpReply reply;
  reply.body = co_await bittorrent_.announce(target.substr(target.find('?') + 1), remote);
  co_return reply;
}

}  // namespace mesh
