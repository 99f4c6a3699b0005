#include "node/node.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <sstream>

#include "core/address.h"
#include "core/format.h"
#include "core/memory.h"
#include "disk/state_dir.h"
#include "get/differ.h"
#include "get/get_queue.h"
#include "get/getter.h"
#include "mesh/check_up.h"
#include "mesh/gossip.h"
#include "mesh/node_channels.h"
#include "mesh/path_index.h"
#include "node/keeper.h"
#include "node/own_addresses.h"
#include "node/own_identity.h"
#include "node/remote_commands.h"
#include "node/store_commands.h"
#include "page/page.h"
#include "serve/block_teller.h"
#include "serve/guests.h"
#include "serve/http_gateway.h"
#include "serve/mount_teller.h"
#include "serve/pack_maker.h"
#include "serve/range_teller.h"
#include "serve/seeder.h"
#include "serve/streamer.h"
#include "transfer/prefetcher.h"
#include "transfer/read_cache.h"
#include "transfer/read_profiles.h"
#include "transfer/spools.h"
#include "transfer/transfers.h"
#include "wire/announce.h"
#include "wire/endpoint.h"
#include "wire/server.h"

namespace mesh {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

namespace {

/// At the end, for partial downloads to be saved.
constexpr auto save_limit = milliseconds(3000);

/// What else everyone who may read is allowed.
const char* may_order(const NodeOptions& options) {
  const auto refuses = [&](const char* order) {
    return std::ranges::find(options.refuse, order) != options.refuse.end();
  };
  if (refuses("delete")) return refuses("get") ? "" : ", and have this node get files (--refuse get)";
  return refuses("get") ? ", and delete it (--refuse delete)"
                        : ", delete it, and have this node get files (--refuse delete --refuse get)";
}

Library::Options library_options(const NodeOptions& options) {
  Library::Options out;
  out.files = options.files;
  out.follow = options.follow;
  out.ignore = options.ignore;
  out.group = group_number(options.control_group);
  out.most_watches = options.most_watches;
  return out;
}

}  // namespace

Node::Node(asio::io_context& io, NodeOptions options, std::unique_ptr<StateDir> state, Log log, const Legacy& legacy)
    : io_(io),
      state_(std::move(state)),
      options_(std::move(options)),
      log_(std::move(log)),
      workers_(std::make_unique<Workers>(io)),
      library_(std::make_unique<Library>(io, *state_, library_options(options_), log_)),
      room_(std::make_unique<Room>([this] { return library_->installer().free_bytes(); })),
      lost_place_(io) {
  if (!legacy.trackers.empty()) options_.trackers = legacy.trackers;
  if (legacy.identity) static_cast<void>(keep_identity(*state_, *legacy.identity));
  identity_ = identity_of(*state_, log_);
  remember_identity();
  check_head();
  const Pacer download(options_.max_down);  // of what comes and goes on node channels
  const Pacer upload(options_.max_up);
  listen();
  links_ = make_links();
  node_channels_ = std::make_unique<NodeChannels>(*workers_, options_.access(), *links_, mesh_handlers_);
  seeder_ = std::make_unique<Seeder>(*workers_, options_.keys, *library_, *session_, upload);
  block_teller_ = std::make_unique<BlockTeller>(*workers_, *library_, *seeder_, upload);
  block_teller_->asking = [this](const ContentId& id, std::int64_t size) {
    return transfers_->delta().is_asking(id, size);
  };
  pack_maker_ = std::make_unique<PackMaker>(*workers_, options_.keys, *library_, *session_, *room_);
  guests_ =
      std::make_unique<Guests>(*workers_, Guests::Options{options_.access(), options_.max_up, session_->listens_at()},
                               log_, *library_, *seeder_);
  transfers_ = std::make_unique<Transfers>(*workers_,
                                           Transfers::Options{options_.stall, options_.search_patience, options_.keys,
                                                              options_.max_active, [this] { return as_teller(); }},
                                           log_, *library_, *session_, *links_, *node_channels_, *room_, download);
  transfers_->on_arrived = [this](const TransferInfo& info) {
    throughput_.arrived(info.path, {info.from_sources, info.from_getters, info.from_origin});
  };
  spools_ = std::make_unique<Spools>(*workers_, Spools::Options{options_.stall, options_.keys}, *library_, *session_,
                                     *links_, *room_);
  read_cache_ =
      std::make_unique<ReadCache>(*workers_, ReadCache::Options{options_.cache, [this] { return as_teller(); }}, log_,
                                  *library_, *links_, *node_channels_, transfers_->parts(), *room_);
  ReadProfiles::Options profiles;
  Prefetcher::Options prefetching;
  if (options_.quiet.count() > 0) profiles.pause = prefetching.quiet = prefetching.least_open = options_.quiet;
  profiles_ = std::make_unique<ReadProfiles>(*workers_, profiles, *library_, *links_, *node_channels_);
  const auto get_rest = [this](const FileEntry& file) {
    Get request;
    request.whats.push_back("id:" + file.id.hex());
    gets_->keep(std::move(request), nullptr, [](const std::vector<GetOutcome>&) {});
  };
  prefetcher_ = std::make_unique<Prefetcher>(*workers_, prefetching, *profiles_, get_rest);
  range_teller_ = std::make_unique<RangeTeller>(*workers_, *library_, *seeder_, *read_cache_, *profiles_, upload);
  const auto stores = std::make_shared<const Stores>(options_.stores);
  getter_ = std::make_unique<Getter>(
      *workers_, Getter::Options{options_.url_ignore, options_.max_active, stores, options_.local_urls}, log_,
      *library_, *links_, *node_channels_, *transfers_, *spools_, download);
  differ_ = std::make_unique<Differ>(*workers_, options_.keys, *library_, *links_, getter_->resolver(), *transfers_);
  streamer_ = std::make_unique<Streamer>(*workers_, *library_, *session_, *spools_, *getter_);
  const auto pipe = [this](ChannelPtr channel, GetTaskPtr task, std::shared_ptr<bool> over) {
    return streamer_->pipe(std::move(channel), std::move(task), std::move(over));
  };
  gets_ =
      std::make_unique<GetQueue>(*workers_, options_.max_gets, log_, *library_, *room_, *transfers_, *getter_, pipe);
  store_commands_ = std::make_unique<StoreCommands>(*workers_, options_, log_, *library_, stores, upload);
  remote_commands_ = std::make_unique<RemoteCommands>(*workers_, options_, log_, *library_, *links_, *gets_);
  mounts_ = make_mount_teller();
  serve_mesh();
  serve_commands();
  gossip_ = make_gossip();
  check_up_ = std::make_unique<CheckUp>(*workers_, *links_, *node_channels_, *gossip_);
  check_up_->serve(mesh_handlers_);
  index_ = make_index();
  seeder_->on_standard = [this](const SwarmTorrent& torrent) {
    if (index_) index_->seeds(to_message(torrent));
  };
  // Orders come by way of a tracker alone, or of what stands in for one.
  tracker_handlers_ = mesh_handlers_;
  remote_commands_->serve_mesh(tracker_handlers_);
  pack_maker_->serve(tracker_handlers_);
  tracker_handlers_.on_note<Call>([this](const ChannelPtr& tracker, Call asked) {
    // No tracker sends a node to what only the node can reach, but from there itself.
    const bool is_within = tracker->remote().is_unspecified();
    const auto from = reach_of(tracker->remote());
    std::erase_if(asked.addresses, [&](const std::string& text) {
      const auto address = parse_address(text);
      if (!address || !is_of_a_host(*address)) return true;
      const auto reach = reach_of(*address);
      return options_.is_on_network() ? reach != Reach::anywhere && reach != from && !is_within
                                      : reach != Reach::machine;
    });
    spawn(io_, call(std::move(asked)));
  });
  listen_to_library();
  listen_for_http();
  spawn(io, tick());
  if (options_.hash_eagerly) spawn(io, seeder_->hash_eagerly());
  gets_->resume();
  if (gets_->is_idle()) gets_->inherit(legacy.gets);             // or they were written down here
  if (options_.keep.empty() || options_.linger_seconds) return;  // not for a command's sake
  gets_->on_dropped = [this](const What& what) { keeper_->let_go(what); };
  keeper_ = std::make_unique<Keeper>(
      *workers_,
      Keeper::Options{options_.keep, options_.keep_max, std::max(options_.max_active / 2, 1), options_.keep_look}, log_,
      *library_, *links_, *gets_);
  spawn(io, keeper_->run());
}

void Node::check_head() const {
  if (options_.keys && options_.head && !options_.keys->is_head(identity_->instance()))
    log_(
        "--head does not count in a mesh with a key: this line in the key file, on every tracker and node, does: head "
        "= " +
        identity_->instance());
}

/// What a node had by another identity is its own, and not what somebody else had.
void Node::remember_identity() {
  constexpr const char* note = "instances";
  constexpr std::size_t most = 17;  // of which one is that of now; each 32 digits
  std::vector<std::string> all{identity_->instance()};
  std::istringstream known(library_->db().find_note(note));
  for (std::string one; known >> one && all.size() < most;)
    if (is_instance(one) && one != all.front()) all.push_back(one);
  std::string text;
  for (const auto& one : all) text += one + " ";
  library_->db().put_note(note, text);
  former_.assign(all.begin() + 1, all.end());
}

/// Another program is in the mesh by it: a copy of this state directory is in use, and that one was first.
void Node::give_up_identity() {
  identity_ = new_identity();
  std::string unwritten;
  try {
    set_identity(*state_, *identity_);
  } catch (const std::exception& error) {
    unwritten = std::string(" until the node ends, as it cannot be written down: ") + error.what();
  }
  remember_identity();
  log_(warning(
      state_->path().string() +
      ": another node is in the mesh by this one's identity, as its state directory was copied; it has a new one from "
      "now on, " +
      identity_->instance() + unwritten));
  check_head();
  gossip_->identity_changed();
  if (index_) index_->identity_changed();
  links_->reconnect();
}

/// What changes in the files directory goes to the trackers, and what is loaded of it to the session.
void Node::listen_to_library() {
  library_->on_change = [this](const Library::Change& change) {
    const auto unload_if = [this](const auto& is_of_no_use) {
      for (const auto& torrent : session_->all())
        if (!torrent->downloading && is_of_no_use(*torrent)) session_->unload(torrent->torrent.id);
    };
    // What was loaded from a path that was withdrawn may be held under another one as well; it is loaded anew from
    // there when asked for.
    if (change.is_withdrawn || !change.delta.removed.empty()) range_teller_->forget();
    if (change.is_withdrawn)
      unload_if([&](const SwarmTorrent& torrent) {
        return torrent.storage->is_faulted() || (change.withdrawn.is_set() && torrent.content() == change.withdrawn);
      });
    if (change.delta.put.empty() && change.delta.removed.empty()) return;
    links_->note_all(change.delta);
    if (index_) index_->changed(change.delta);
    unload_if([&](const SwarmTorrent& torrent) {
      return torrent.role != Role::spool && torrent.role != Role::pack && torrent.role != Role::provisional &&
             library_->inventory().find(torrent.content(), torrent.storage->layout().size) == nullptr;
    });
  };
  library_->on_touched = [this](const FileEntry& entry) { seeder_->prove(entry); };
  library_->on_scanned = [this] {
    links_->scan_completed();
    if (index_) index_->scan_completed();
  };
  session_->on_unloaded = [this](const ContentId& id) {
    Unloaded note;
    note.id = id;
    links_->note_all(note);
    if (index_) index_->unloaded(id);
  };
  library_->watch();
}

Node::~Node() {
  alive_.reset();
  library_->stop_watching();
  workers_->join();
}

void Node::listen() {
  const auto& options = options_;
  const bool any_port = options.listen.empty();
  const auto where = any_port ? HostPort{options.is_on_network() ? any_host() : "127.0.0.1", default_peer_port}
                              : parse_host_port(options.listen, default_peer_port);
  boost::system::error_code ec;
  const auto address = asio::ip::make_address(where.host, ec);
  if (ec) throw Error(Status::usage, "--listen " + printable(options.listen) + ": is no IP address and port");
  Session::Options swarm;
  swarm.listen = {{address, where.port}};
  if (address.is_v6() && address.is_unspecified()) swarm.listen.emplace_back(asio::ip::address_v4::any(), where.port);
  swarm.pick_free_port = any_port;
  swarm.max_down = options.max_down;
  swarm.max_up = options.max_up;
  swarm.max_peers = options.max_peers;
  swarm.access = options.access();
  session_ = std::make_unique<Session>(io_, swarm, log_);
  const auto serve = [this](std::string path, ChannelPtr channel) {
    return serve_channel(std::move(path), std::move(channel), mesh_handlers_);
  };
  const auto on_http = [this](std::string target, asio::ip::address remote, asio::ip::address local) {
    return serve_http(std::move(target), remote, local);
  };
  const auto next = static_cast<std::uint16_t>(where.port == 0 ? 0 : session_->port() + 1);
  try {
    server_ = std::make_unique<Server>(io_, asio::ip::tcp::endpoint(address, next), on_http, serve, options.connections,
                                       options.access());
  } catch (const Error&) {
    if (!any_port) throw;
    server_ = std::make_unique<Server>(io_, asio::ip::tcp::endpoint(address, 0), on_http, serve, options.connections,
                                       options.access());
  }
  listen_locally();
}

void Node::listen_locally() {
  const auto& options = options_;
  const auto group = group_number(options.control_group);
  LocalPlace place;
  place.shown = options.control_socket().string();
  place.name = options.control_socket().filename().string();
  place.directory = options.control.empty() ? Fd(::open(state_->handle().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC))
                                            : open_trusted(options.control.parent_path(), {group, true}, 0,
                                                           "name another one with --control");
  auto fresh =
      std::make_unique<LocalServer>(io_, std::move(place), group, [this](std::string path, ChannelPtr channel) {
        return serve_channel(std::move(path), std::move(channel), command_handlers_);
      });
  local_ = std::move(fresh);
  state_->say_where(options.control_socket().string());
}

/// The files directory was moved away, deleted, or something was mounted over it: what is open here is of no use to
/// anybody. One that is only missing may be about to be put back by whoever moved it.
bool Node::is_in_place() {
  using Place = PathGate::Place;
  const auto place = library_->gate().place();
  const bool was_missing = std::exchange(missing_, place == Place::missing);
  if (place == Place::here || (place == Place::missing && !was_missing)) return true;
  log_(warning(options_.files.string() + ": the files directory was " +
               (place == Place::missing
                    ? "moved away or deleted; it is made anew"
                    : "moved, or something was mounted over it; the node begins anew with what is there")));
  return false;
}

/// What a cleaner of /tmp took away comes back. False where this node cannot go on.
bool Node::look_after_state() {
  if (missing_ || begins_anew_) return true;  // the state directory may lie in it
  try {
    auto lost = state_->look_after();
    if (keep_identity(*state_, *identity_)) lost += (lost.empty() ? "" : ", ") + std::string("its identity");
    if (library_->db().look_after()) lost += (lost.empty() ? "" : ", ") + std::string("its database");
    const auto& control = options_.control;
    const Fd at(control.empty() ? -1 : ::open(control.parent_path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!control.empty() && !at && errno != ENOENT) return true;  // no descriptor is left, say: another time
    if (!local_->is_in(control.empty() ? state_->fd() : at.get())) {
      listen_locally();
      lost += (lost.empty() ? "" : ", ") + std::string("its local socket");
    }
    if (!lost.empty())
      log_(warning(state_->path().string() + ": somebody took away " + lost +
                   "; made anew (a cleaner of /tmp? --state names another place)"));
  } catch (const NodeRunsHere& error) {
    log_(failure(std::string("cannot go on: ") + error.what()));
    return false;
  } catch (const std::exception& error) {
    log_(failure(std::string("the state directory is not as it should be; looking again soon: ") + error.what()));
  }
  return true;
}

std::string Node::describe() const {
  const auto& options = options_;
  return "node " + options.name + ": files " + options.files.string() + ", peers on port " +
         std::to_string(session_->port()) + ", node channel on port " + std::to_string(server_->local().port()) +
         (options.keys
              ? "; who has the mesh key " + options.keys->first().name + " may read every file" + may_order(options)
          : options.open
              ? ("; open: everyone who can reach the mesh may read every file" + std::string(may_order(options)))
              : "; on loopback only, for this user and root");
}

/// Guests are outsiders: they are told where to come, not what networks there are.
std::vector<std::string> Node::guest_addresses(const Hello& self) const {
  if (self.advertised) return self.addresses;
  if (!options_.is_on_network()) return {"127.0.0.1"};
  auto out = outward_addresses();
  return out.empty() ? self.addresses : out;
}

void Node::serve_commands() {
  auto& h = command_handlers_;
  remote_commands_->serve_commands(h);
  store_commands_->serve(h);
  mounts_->serve(h);
  h.on<Stream>(
      [this](ChannelPtr channel, Stream asked) { return streamer_->stream(std::move(channel), std::move(asked)); });
  h.on<MeshCheckAsk>([this](ChannelPtr, MeshCheckAsk) -> Task<MeshChecked> {
    MeshChecked out = co_await check_up_->look();
    out.is_on_network = options_.is_on_network();
    co_return out;
  });
  h.on<DiffAsk>([this](ChannelPtr channel, DiffAsk asked) {
    remote_commands_->check_seeds(channel, asked.seeds);
    return differ_->diff(std::move(channel), std::move(asked));
  });
  h.on<CacheAsk>([this](ChannelPtr, CacheAsk asked) -> Task<CacheUsage> {
    if (asked.drop) co_await read_cache_->drop();
    co_return co_await read_cache_->usage();
  });
  h.on<PlacesAsk>([this](ChannelPtr, PlacesAsk) -> Task<NodePaths> {
    NodePaths out;
    out.files = library_->gate().files_dir().given;
    out.real = library_->gate().files_dir().real;
    out.leaving = workers_->stopping();
    out.state = state_->path().string();
    co_return out;
  });
  h.on<Handover>([this](ChannelPtr, Handover) -> Task<WayMade> {
    WayMade out;
    auto& linger = options_.linger_seconds;
    out.leaves = linger.has_value();
    if (linger) linger = 0;
    co_return out;
  });
  h.on<StatusAsk>([this](ChannelPtr, StatusAsk question) -> Task<StatusReply> {
    StatusReply out;
    if (!question.mesh) {
      out.nodes.push_back(status());
      co_return out;
    }
    ChannelPtr tracker;
    out = co_await links_->ask(question, tracker_limit, seconds(10), &tracker);
    const auto silent = std::ranges::count_if(out.nodes, [](const NodeStatus& node) { return !node.error.empty(); });
    out.view = view_of(tracker, out.nodes.size(), static_cast<std::size_t>(silent));
    co_return out;
  });
  h.on<GlanceAsk>([this](ChannelPtr, GlanceAsk asked) -> Task<Glances> {
    if (asked.mesh) co_return co_await glance_at_mesh(asked);
    Glances out;
    out.nodes.push_back(glance(asked.hour));
    co_return out;
  });
  h.on<List>([this](ChannelPtr, List question) -> Task<Listed> {
    if (question.local || (question.local_if_alone && links_->is_alone())) {
      while (!library_->inventory().is_complete()) co_await sleep_for(milliseconds(20));
      // A page that a slice of time ended before it had anything says nothing.
      const bool begins = question.after.empty();
      Listed page;
      for (;;) {
        page = library_->inventory().list(question);
        if (!page.items.empty() || page.next.empty()) break;
        question.after = page.next;
        co_await give_way();
      }
      if (begins && !question.after.empty() && page.items.empty() && question.glob)
        throw Error(Status::not_found, printable(question.pattern) + ": not found on this node");
      co_return page;
    }
    co_return co_await links_->ask(question, tracker_limit, seconds(120));
  });
  h.on<Info>([this](ChannelPtr, Info question) -> Task<Versions> {
    co_return co_await links_->ask(question, tracker_limit, seconds(120));
  });
  h.on<TorrentAsk>([this](ChannelPtr, TorrentAsk question) -> Task<TorrentFile> {
    if (question.seconds > 0) {
      const Hello self = hello();
      co_return co_await guests_->issue(question.path, seconds(question.seconds), guest_addresses(self),
                                        self.channel_port);
    }
    if (options_.keys)
      throw Error(Status::refused, printable(question.path) +
                                       ": other clients have no key to this mesh; --for 1h makes a guest torrent");
    ChannelPtr tracker;
    TorrentFile out = co_await links_->ask(question, tracker_limit, question_limit, &tracker);
    if (index_ && index_->is_view(tracker)) out.trackers = index_->announce_addresses(out.torrent.infohash);
    // All the trackers that this node knows; others on loopback are of no use to whoever gets the file.
    for (const auto& name : links_->names())
      if (std::ranges::find(out.trackers, name) == out.trackers.end() && !is_loopback_host(parse_host_port(name).host))
        out.trackers.push_back(name);
    co_return out;
  });
}

Task<void> Node::tick() {
  const auto alive = std::weak_ptr<bool>(alive_);
  Trimmer trimmer;
  for (int count = 1;; ++count) {
    const auto due = Clock::now() + seconds(1);
    co_await workers_->rest(seconds(1));
    if (alive.expired() || workers_->stopping()) co_return;
    watch_.due(due, Clock::now());
    try {
      guests_->tend();
      session_->hang_up_on_unauthenticated();
    } catch (const std::exception& error) {
      log_(warning(std::string("upkeep: ") + error.what()));
    }
    profiles_->tend();
    mounts_->tend();
    if (count % 60 == 0) trimmer.give_back();
    count_throughput();
    if (count % 5 == 0 && http_) watch_.look(transfers_->infos(), Clock::now());
    if (count % 5 == 0) session_->unload_idle();
    if (count % 5 == 0) range_teller_->tend();
    if (count % 5 == 0) state_->say_alive();
    if (count % 5 != 0) continue;
    if (!begins_anew_ && !is_in_place()) {
      begins_anew_ = true;
      lost_place_.notify();
    } else if (!look_after_state()) {
      failed_ = true;
      std::raise(SIGTERM);
    }
  }
}

Task<void> Node::until_unneeded() {
  std::int64_t sent = 0;
  // First the command that it was made for has to find it.
  for (const auto deadline = Clock::now() + seconds(10); !was_asked_ && Clock::now() < deadline;)
    co_await sleep_for(milliseconds(20));
  needed_ = Clock::now();
  for (;;) {
    std::int64_t now_sent = 0;
    for (const auto& torrent : session_->all()) {
      session_->refresh(*torrent);
      now_sent += torrent->sent;
    }
    const bool needed =
        commands_ > 0 || !getter_->is_idle() || !gets_->is_idle() || !streamer_->is_idle() || now_sent != sent;
    if (needed) needed_ = Clock::now();
    sent = now_sent;
    // Without a torrent there is nothing that others could still need.
    const bool serves = !session_->all().empty() || !guests_->torrents().empty();
    const auto stay = seconds(options_.linger_seconds.value_or(0));
    if (workers_->stopping() || (!needed && (!serves || Clock::now() - needed_ >= stay))) co_return;
    co_await workers_->rest(milliseconds(200));
  }
}

Task<void> Node::until_it_begins_anew() {
  while (!begins_anew_ && !workers_->stopping()) co_await lost_place_.wait();
}

Node::Legacy Node::legacy() const { return {identity_, gets_->requests(), options_.trackers}; }

Task<void> Node::stop() {
  if (begins_anew_)
    gets_->explain(options_.files.string() +
                   ": the files directory was moved, deleted or mounted over; what was asked "
                   "for is got into what is there now, and meshfile wait waits for it");
  workers_->stop();
  lost_place_.notify();
  transfers_->stop();
  local_->close();
  server_->close();
  if (http_) http_->close();
  const auto deadline = Clock::now() + save_limit;
  while ((!getter_->is_idle() || !streamer_->is_idle()) && Clock::now() < deadline)
    co_await sleep_for(milliseconds(20));
  co_await profiles_->close();
  co_await read_cache_->close();
  if (index_) index_->close();
  co_await gossip_->close();
  links_->close();
  node_channels_->close();
  for (const auto& channel : std::set<ChannelPtr>(channels_)) channel->close();
}

}  // namespace mesh
