// The messages of the control channel (node <-> tracker), the node channel (node <-> node) and the local socket
// (command <-> node). One vocabulary: what a tracker can be asked, a node can be asked.
//
// A message with a `Reply` is a request; one without is a note. All values; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/digest.h"
#include "core/entry.h"
#include "core/member.h"

namespace mesh {

inline constexpr int protocol_version = 3;
/// No frame is larger; senders page or batch well below it.
inline constexpr std::size_t max_frame_bytes = std::size_t{16} << 20;
/// Entries in one page of a resolve or listing, and in one inventory delta.
inline constexpr std::size_t page_entries = 2000;

/// A node as another can reach it: addresses in the order in which to try them.
struct NodeRef {
  std::uint32_t key = 0;
  std::string name;
  std::vector<std::string> addresses;
  std::uint16_t peer_port = 0;
  std::uint16_t channel_port = 0;
  bool operator==(const NodeRef&) const = default;
  template <class V>
  void describe(V& v) {
    v("key", key), v("name", name), v("addr", addresses), v("peer", peer_port), v("chan", channel_port);
  }
};

// --- node to tracker -----------------------------------------------------------------------------------------------

struct Welcome {
  static constexpr const char* name = "welcome";
  std::string observed;  ///< the asker's address as the tracker sees it
  std::uint32_t key = 0;
  std::vector<Member> members;  ///< some of the other nodes, for when no tracker answers
  std::string known_as;         ///< where another node has the same name: what tells this one from it
  template <class V>
  void describe(V& v) {
    v("observed", observed), v("key", key), v("members", members), v("as", known_as);
  }
};

/// What two nodes tell each other: who they are, and whom else they know.
struct Greeted {
  static constexpr const char* name = "greeted";
  Member self;
  std::string public_key;  ///< of `self`, and the proof that it is (wire/identity.h), as in Hello
  std::string proof;
  std::vector<Member> known;
  template <class V>
  void describe(V& v) {
    v("self", self), v("pub", public_key), v("proof", proof), v("known", known);
  }
};

struct Greet {
  static constexpr const char* name = "greet";
  using Reply = Greeted;
  Member self;
  std::string public_key;
  std::string proof;
  std::vector<Member> known;
  template <class V>
  void describe(V& v) {
    v("self", self), v("pub", public_key), v("proof", proof), v("known", known);
  }
};

/// The first message of a node on a control channel. A command that only asks questions sends none.
struct Hello {
  static constexpr const char* name = "hello";
  using Reply = Welcome;
  int version = 0;
  std::string instance;    ///< hex: tells nodes of one name apart
  std::string public_key;  ///< of which the instance follows (wire/identity.h)
  std::string proof;       ///< that the sender has the private one: over its name() and the channel's binding
  std::string node;
  std::vector<std::string> addresses;
  bool advertised = false;  ///< the addresses were given by --advertise and are the only ones to use
  std::uint16_t peer_port = 0;
  std::uint16_t channel_port = 0;
  bool head = false;
  template <class V>
  void describe(V& v) {
    v("version", version), v("instance", instance), v("pub", public_key), v("proof", proof), v("node", node),
        v("addr", addresses), v("adv", advertised), v("peer", peer_port), v("chan", channel_port), v("head", head);
  }
};

/// A note: what changed in the sender's files dir. `begin` opens a whole inventory, `end` closes it.
struct InventoryDelta {
  static constexpr const char* name = "inventory";
  bool begin = false;
  bool end = false;
  std::vector<FileEntry> put;
  std::vector<std::string> removed;
  template <class V>
  void describe(V& v) {
    v("begin", begin), v("end", end), v("put", put), v("del", removed);
  }
};
/// The same in notes of at most `page_entries` each, removals first. Without `begin` and `end`.
[[nodiscard]] std::vector<InventoryDelta> in_pages(const InventoryDelta& delta);

struct ResolvedFile {
  FileEntry entry;                     ///< of the chosen version; `id` unset where nobody has hashed it
  std::vector<std::uint32_t> holders;  ///< keys of nodes that have the bytes, or of the one candidate
  std::string problem;                 ///< why this path cannot be had, in words; then the rest does not count
  bool own_wins = false;               ///< the asker's own copy would be chosen, were it asked for by somebody else
  template <class V>
  void describe(V& v) {
    v("e", entry), v("h", holders), v("x", problem), v("own", own_wins);
  }
};

struct Resolved {
  static constexpr const char* name = "resolved";
  std::vector<ResolvedFile> files;
  std::vector<NodeRef> nodes;    ///< the nodes that `files` mention
  std::string next;              ///< ask again with `after` = next; empty at the end
  std::vector<FileEntry> above;  ///< the directories that `files` lie in and that are not among them
  template <class V>
  void describe(V& v) {
    v("files", files), v("nodes", nodes), v("next", next), v("above", above);
  }
};

/// Which files a WHAT names, each with its chosen version. The asker's own copies do not count unless nobody else has
/// any.
struct Resolve {
  static constexpr const char* name = "resolve";
  using Reply = Resolved;
  std::string pattern;  ///< as in What
  bool glob = false;
  std::string from;
  bool strict = false;
  std::string after;
  template <class V>
  void describe(V& v) {
    v("pattern", pattern), v("glob", glob), v("from", from), v("strict", strict), v("after", after);
  }
};

/// A torrent of the content `id`, of the mesh or foreign (wire/foreign.h).
struct Torrent {
  static constexpr const char* name = "torrent";
  ContentId id;
  InfoHash infohash;
  std::int64_t size = 0;
  std::string roots;  ///< of the pieces, 32 bytes each; none of a file of one piece
  std::string info;   ///< the info dictionary of a foreign torrent; of the mesh's own, roots and key make it
  int holders = 0;    ///< in a reply to Join: nodes other than the asker that have all the bytes
  template <class V>
  void describe(V& v) {
    v("id", id), v("infohash", infohash), v("size", size), v("roots", roots), v("info", info), v("holders", holders);
  }
};

/// "I want to download this": the torrent is made where needed and loaded at holders before the reply.
struct PrepareSwarm {
  static constexpr const char* name = "join";
  using Reply = Torrent;
  FileEntry file;  ///< `file.id` unset: the candidate on node `holder` must be hashed first
  std::uint32_t holder = 0;
  template <class V>
  void describe(V& v) {
    v("file", file), v("holder", holder);
  }
};

struct Introduced {
  static constexpr const char* name = "introduced";
  std::vector<std::string> peers;      ///< "addr:port"
  std::vector<std::string> sources;    ///< those of `peers` that have all the bytes
  std::uint64_t self = 0;              ///< the asker in `getters`
  std::vector<std::uint64_t> getters;  ///< the nodes that share the stripes; empty where the asker shares none
  template <class V>
  void describe(V& v) {
    v("peers", peers), v("sources", sources), v("self", self), v("getters", getters);
  }
};

/// "My torrent is loaded": the asker may be introduced from now on, and learns whom to connect to.
struct JoinSwarm {
  static constexpr const char* name = "ready";
  using Reply = Introduced;
  ContentId id;
  InfoHash infohash;
  bool shares = false;   ///< the asker wants pieces in an order of its own, and a stripe of them: it is told of plans
  bool foreign = false;  ///< it seeds to other clients
  std::int64_t size = 0;
  template <class V>
  void describe(V& v) {
    v("size", size), v("id", id), v("infohash", infohash), v("shares", shares), v("foreign", foreign);
  }
};

/// A note to the getters of a swarm: who shares the stripes now.
struct Plan {
  static constexpr const char* name = "plan";
  ContentId id;
  std::vector<std::uint64_t> getters;
  template <class V>
  void describe(V& v) {
    v("id", id), v("getters", getters);
  }
};

/// A note to nodes that seed: connect to these peers ("addr:port"), clients of another make that may not find the way
/// themselves.
struct ConnectTo {
  static constexpr const char* name = "meet";
  ContentId id;
  std::vector<std::string> peers;
  template <class V>
  void describe(V& v) {
    v("id", id), v("peers", peers);
  }
};

/// A note: this node's torrent is unloaded, nobody is to be sent to it.
struct Unloaded {
  static constexpr const char* name = "unloaded";
  ContentId id;
  template <class V>
  void describe(V& v) {
    v("id", id);
  }
};

/// A note to a node: what its people should know, for its log.
struct Notice {
  static constexpr const char* name = "notice";
  std::string text;
  template <class V>
  void describe(V& v) {
    v("text", text);
  }
};

// --- a file on its way from a URL -----------------------------------------------------------------------------------

/// What the origin said of the file. `validator` is a strong ETag or, with `size`, the Last-Modified; a getter that
/// meets another one has met another version.
struct UrlFacts {
  std::int64_t size = -1;  ///< bytes; below 0: nothing is known yet
  std::int64_t mtime = 0;  ///< nanoseconds since the epoch
  std::string validator;
  bool ranges = false;  ///< parts of it can be asked for
  bool operator==(const UrlFacts&) const = default;
  template <class V>
  void describe(V& v) {
    v("size", size), v("mtime", mtime), v("validator", validator), v("ranges", ranges);
  }
};

/// What is wrong with facts that came from the network, in words; empty when nothing is.
[[nodiscard]] std::string url_facts_fault(const UrlFacts& facts);

/// The first question to an origin is for so many bytes: a smaller file is whole then, and needs no swarm to arrive.
inline constexpr std::int64_t url_first_bytes = std::int64_t{1} << 20;

/// A piece that a node has from the origin, by the SHA-256 merkle root over its blocks.
struct UrlPiece {
  int index = 0;
  ContentId root;
  std::uint32_t by = 0;  ///< who fetched it, in orders
  template <class V>
  void describe(V& v) {
    v("i", index), v("r", root), v("by", by);
  }
};

/// The tracker's word to one of those who get a URL.
struct OriginAssignment {
  static constexpr const char* name = "url-orders";
  std::int64_t epoch = 0;  ///< another one than before: say and ask everything again
  UrlFacts facts;          ///< as the first fetcher found them
  bool first = false;      ///< contact the origin, and say what it says
  int begin = 0;           ///< the pieces to fetch now; none where begin == end
  int end = 0;
  std::vector<UrlPiece> pieces;  ///< news since `known`
  int known = 0;                 ///< ask with this the next time
  int pause = 0;                 ///< milliseconds until the next turn, unless there is something to say
  bool over = false;             ///< a node has the whole file under its path: it is a file of the mesh like others
  std::string error;             ///< nobody can fetch it
  int status = 0;                ///< of the error
  template <class V>
  void describe(V& v) {
    v("epoch", epoch), v("facts", facts), v("first", first), v("begin", begin), v("end", end), v("pieces", pieces),
        v("known", known), v("pause", pause), v("over", over), v("error", error), v("status", status);
  }
};

/// "I am getting this URL": said a few times a second for as long as that is so. Who is silent for long has gone.
struct OriginReport {
  static constexpr const char* name = "url-turn";
  using Reply = OriginAssignment;
  ContentId url;  ///< SHA-256 of the URL without secrets and fragment
  std::string path;
  std::int64_t epoch = 0;        ///< of the last orders; 0 at first
  UrlFacts facts;                ///< where this node has them from the origin
  std::string have;              ///< a byte a piece: 1 where this node has it
  std::vector<UrlPiece> pieces;  ///< that this node has and the tracker may not know
  int known = 0;
  bool idle = false;   ///< would fetch from the origin
  bool whole = false;  ///< has it in place
  bool leave = false;  ///< the last turn of this node
  std::string error;   ///< why it cannot fetch, for good
  int status = 0;      ///< of the error
  template <class V>
  void describe(V& v) {
    v("url", url), v("path", path), v("epoch", epoch), v("facts", facts), v("have", have), v("pieces", pieces),
        v("known", known), v("idle", idle), v("whole", whole), v("leave", leave), v("error", error),
        v("status", status);
  }
};

// --- tracker to node, node to node ---------------------------------------------------------------------------------

struct Made {
  static constexpr const char* name = "made";
  std::vector<FileEntry> files;     ///< as asked, with content ids
  std::vector<std::string> errors;  ///< as many; empty where it went well
  template <class V>
  void describe(V& v) {
    v("files", files), v("errors", errors);
  }
};

/// Hash these files and say their content ids; for those above `small_file_bytes` the torrent is kept ready.
struct HashFiles {
  static constexpr const char* name = "make";
  using Reply = Made;
  std::vector<FileEntry> files;
  bool foreign = false;  ///< other clients are to get them
  template <class V>
  void describe(V& v) {
    v("files", files), v("foreign", foreign);
  }
};

/// Load the torrent of these bytes, named by one of the two, for seeding and say what it is. By both: in this swarm and
/// no other.
struct Seed {
  static constexpr const char* name = "load";
  using Reply = Torrent;
  ContentId id;           ///< unset: whatever foreign torrent has this infohash
  InfoHash infohash;      ///< of the swarm that others are in; may be unset
  bool foreign = false;   ///< the torrent for other clients
  std::string info;       ///< of that, where the asker knows it
  std::int64_t size = 0;  ///< with `id`
  template <class V>
  void describe(V& v) {
    v("size", size), v("id", id), v("infohash", infohash), v("foreign", foreign), v("info", info);
  }
};

struct Probed {
  static constexpr const char* name = "probed";
  std::vector<FileEntry> found;  ///< none or one
  template <class V>
  void describe(V& v) {
    v("found", found);
  }
};

/// Do you have this path, although no delta has said so yet?
struct ProbePath {
  static constexpr const char* name = "probe";
  using Reply = Probed;
  std::string path;
  template <class V>
  void describe(V& v) {
    v("path", path);
  }
};

struct FetchedFile {
  ContentId id;
  std::string data;
  std::string error;
  template <class V>
  void describe(V& v) {
    v("id", id), v("data", data), v("error", error);
  }
};

struct Fetched {
  static constexpr const char* name = "fetched";
  std::vector<FetchedFile> files;  ///< in the order of the request; may be fewer, the rest is to be asked again
  template <class V>
  void describe(V& v) {
    v("files", files);
  }
};

/// The bytes of small files, as they were listed: a copy that has changed since is an error, not other bytes.
struct Fetch {
  static constexpr const char* name = "fetch";
  using Reply = Fetched;
  std::vector<FileEntry> files;
  template <class V>
  void describe(V& v) {
    v("files", files);
  }
};

struct Located {
  static constexpr const char* name = "located";
  struct Holders {
    std::vector<std::uint32_t> nodes;
    template <class V>
    void describe(V& v) {
      v("n", nodes);
    }
  };
  std::vector<Holders> files;  ///< as many as asked for
  std::vector<NodeRef> nodes;  ///< that `files` mention
  template <class V>
  void describe(V& v) {
    v("files", files), v("nodes", nodes);
  }
};

/// Who holds these versions under these paths by now. For small files: the getters of a moment ago serve them too.
struct Locate {
  static constexpr const char* name = "locate";
  using Reply = Located;
  std::vector<FileEntry> files;
  template <class V>
  void describe(V& v) {
    v("files", files);
  }
};

// --- questions of the commands, to a node or to the tracker ---------------------------------------------------------

struct ListItem {
  FileEntry entry;
  int holders = 0;
  int versions = 0;     ///< that are certainly different
  bool unsure = false;  ///< there may be more: copies that could differ, and that nobody has hashed
  template <class V>
  void describe(V& v) {
    v("e", entry), v("n", holders), v("v", versions), v("unsure", unsure);
  }
};

struct Listed {
  static constexpr const char* name = "listed";
  std::vector<ListItem> items;
  std::string next;
  std::string view;  ///< when no tracker answers: whose word this is, in words
  template <class V>
  void describe(V& v) {
    v("items", items), v("next", next), v("view", view);
  }
};

struct List {
  static constexpr const char* name = "list";
  using Reply = Listed;
  std::string pattern;
  std::string prefix;  ///< of a directory: only what is directly in it and has a name that begins so
  bool glob = false;
  bool recursive = false;
  bool local = false;
  std::string after;
  template <class V>
  void describe(V& v) {
    v("pattern", pattern), v("prefix", prefix), v("glob", glob), v("recursive", recursive), v("local", local),
        v("after", after);
  }
};

struct VersionInfo {
  FileEntry entry;
  bool chosen = false;
  std::vector<std::string> nodes;
  template <class V>
  void describe(V& v) {
    v("e", entry), v("chosen", chosen), v("nodes", nodes);
  }
};

struct Versions {
  static constexpr const char* name = "versions";
  std::vector<VersionInfo> versions;
  template <class V>
  void describe(V& v) {
    v("versions", versions);
  }
};

struct Info {
  static constexpr const char* name = "info";
  using Reply = Versions;
  std::string path;
  template <class V>
  void describe(V& v) {
    v("path", path);
  }
};

struct TransferInfo {
  std::string path;
  std::string state;  ///< queued, hashing, connecting, downloading, placing, paused, seeding, streaming
  std::int64_t done = 0;
  std::int64_t total = 0;
  std::int64_t down_rate = 0;  ///< bytes per second
  std::int64_t up_rate = 0;
  std::int64_t sent = 0;          ///< payload bytes sent to others
  std::int64_t from_sources = 0;  ///< payload bytes from peers that had the whole file when they connected
  std::int64_t from_getters = 0;
  std::int64_t from_origin = 0;  ///< bytes that this node had from the URL's own server
  int peers = 0;
  std::int64_t eta = -1;  ///< seconds; -1: unknown
  bool queued = false;
  std::string detail;
  std::string infohash;  ///< hex; empty where no torrent is loaded
  template <class V>
  void describe(V& v) {
    v("infohash", infohash), v("path", path), v("state", state), v("done", done), v("total", total),
        v("down", down_rate), v("up", up_rate), v("sent", sent), v("src", from_sources), v("get", from_getters),
        v("org", from_origin), v("peers", peers), v("eta", eta), v("queued", queued), v("detail", detail);
  }
};

/// One get of a node, as `meshfile status` shows it.
struct GetInfo {
  std::int64_t number = 0;
  std::vector<std::string> whats;
  std::string state;  ///< queued, running, paused, stopping, done, failed, stopped
  std::string detail;
  bool detached = false;
  int files_done = 0;
  int files_total = 0;
  std::int64_t done = 0;
  std::int64_t total = 0;
  std::int64_t rate = 0;            ///< bytes per second
  int status = 0;                   ///< of one that has ended
  std::vector<std::string> errors;  ///< of one that has ended, the first few
  bool reported = false;            ///< somebody has heard how it ended
  std::int64_t ended = 0;           ///< counts up with each get that ends
  template <class V>
  void describe(V& v) {
    v("number", number), v("whats", whats), v("state", state), v("detail", detail), v("detached", detached),
        v("fdone", files_done), v("ftotal", files_total), v("done", done), v("total", total), v("rate", rate),
        v("status", status), v("errors", errors), v("reported", reported), v("ended", ended);
  }
};

struct NodeStatus {
  std::string node;
  std::string error;
  bool tracker_connected = false;
  int files = 0;
  int torrents_loaded = 0;
  int members = 0;  ///< other nodes that it knows of, for when no tracker answers
  std::vector<GetInfo> gets;
  std::vector<TransferInfo> transfers;
  template <class V>
  void describe(V& v) {
    v("node", node), v("error", error), v("tracker", tracker_connected), v("files", files),
        v("loaded", torrents_loaded), v("members", members), v("gets", gets), v("transfers", transfers);
  }
};

struct StatusReply {
  static constexpr const char* name = "status-reply";
  std::vector<NodeStatus> nodes;
  std::string view;  ///< as in Listed
  template <class V>
  void describe(V& v) {
    v("nodes", nodes), v("view", view);
  }
};

struct StatusAsk {
  static constexpr const char* name = "status";
  using Reply = StatusReply;
  bool mesh = false;
  template <class V>
  void describe(V& v) {
    v("mesh", mesh);
  }
};

struct TorrentFile {
  static constexpr const char* name = "torrent-file";
  Torrent torrent;
  std::string file_name;              ///< what the torrent's one file is to be called
  std::vector<std::string> trackers;  ///< announce addresses, "host:port"
  bool guest = false;                 ///< of a guest torrent: named like the file, and for a time
  template <class V>
  void describe(V& v) {
    v("torrent", torrent), v("name", file_name), v("trackers", trackers), v("guest", guest);
  }
};

/// A torrent of the chosen version of `path`, for other BitTorrent clients.
struct TorrentAsk {
  static constexpr const char* name = "torrent-ask";
  using Reply = TorrentFile;
  std::string path;
  std::int64_t seconds = 0;  ///< above 0: a guest torrent, served by the node that is asked for so long
  template <class V>
  void describe(V& v) {
    v("path", path), v("seconds", seconds);
  }
};

// --- local socket --------------------------------------------------------------------------------------------------

struct NodePaths {
  static constexpr const char* name = "places";
  std::string files;  ///< absolute
  std::string state;
  template <class V>
  void describe(V& v) {
    v("files", files), v("state", state);
  }
};

/// Which directories are this node's.
struct PlacesAsk {
  static constexpr const char* name = "places-ask";
  using Reply = NodePaths;
  template <class V>
  void describe(V&) {}
};

struct WayMade {
  static constexpr const char* name = "way-made";
  bool leaves = false;
  template <class V>
  void describe(V& v) {
    v("leaves", leaves);
  }
};

/// A meshseed wants the files directory: a node that lives for a command alone leaves as soon as that has ended.
struct Handover {
  static constexpr const char* name = "make-way";
  using Reply = WayMade;
  template <class V>
  void describe(V&) {}
};

struct GetOutcome {
  std::string path;  ///< absolute local path
  std::string mesh_path;
  int what = 0;  ///< index into the request's whats
  int status = 0;
  std::string error;
  bool kept = false;  ///< it was there already
  std::int64_t size = 0;
  bool print = false;             ///< one of the lines for stdout
  std::int64_t from_sources = 0;  ///< bytes that came from nodes that had the whole file
  std::int64_t from_getters = 0;  ///< and from those that were getting it too
  std::int64_t from_origin = 0;   ///< and from the URL's own server
  ContentId id;                   ///< of a file whose bytes are known
  template <class V>
  void describe(V& v) {
    v("path", path), v("mesh", mesh_path), v("what", what), v("status", status), v("error", error), v("kept", kept),
        v("size", size), v("print", print), v("src", from_sources), v("get", from_getters), v("org", from_origin),
        v("id", id);
  }
};

/// Notes to the asker of a Get, before its reply: what became of each file, a page at a time.
struct Outcomes {
  static constexpr const char* name = "outcomes";
  std::vector<GetOutcome> outcomes;
  template <class V>
  void describe(V& v) {
    v("outcomes", outcomes);
  }
};

struct GetReply {
  static constexpr const char* name = "get-reply";
  int status = 0;
  bool running = false;               ///< the time of a Wait was up before its gets were over
  std::vector<std::int64_t> numbers;  ///< then: of the gets that it is about
  template <class V>
  void describe(V& v) {
    v("status", status), v("running", running), v("numbers", numbers);
  }
};

/// Put files into this node's files dir. Ends when all are there or have failed (`detach`: as soon as it is noted
/// down). When the asker's connection closes first, a get that is not detached is stopped; partials stay.
struct Get {
  static constexpr const char* name = "get";
  using Reply = GetReply;
  std::vector<std::string> whats;
  std::string from;
  bool strict = false;
  bool force = false;
  bool wait = false;
  bool detach = false;
  bool no_backing = false;          ///< leave out the backing files of disk images
  std::int64_t max_down = 0;        ///< bytes per second; 0: as fast as it goes
  std::int64_t max_up = 0;          ///< the same, for what it sends meanwhile
  int max_active = 0;               ///< large files at once; 0: as many as the node allows
  std::vector<std::string> except;  ///< patterns that were cancelled since
  /// The bytes of the one file that it names come as StreamData notes while they arrive, in order: each time that they
  /// begin, a StreamBegin comes first. No more than a help: what is in place in the end is what counts, and a file that
  /// was here already, or is small, comes without them. Its pieces are wanted in order, in a wide window.
  bool pipe = false;
  bool refresh = false;            ///< of URLs: ask the origin whether the mesh's copy is still what it has
  std::string ca;                  ///< certificates to trust, as PEM, in place of the system's
  int timeout = 0;                 ///< seconds that an origin may be silent; 0: the default
  bool ordered = false;            ///< by another node, as the one that is asked notes down
  bool no_preserve_modes = false;  ///< leave out the group's right to write as well
  template <class V>
  void describe(V& v) {
    v("ordered", ordered), v("nomodes", no_preserve_modes), v("whats", whats), v("from", from), v("strict", strict),
        v("force", force), v("wait", wait), v("detach", detach), v("nobacking", no_backing), v("maxdown", max_down),
        v("maxup", max_up), v("maxactive", max_active), v("except", except), v("pipe", pipe), v("refresh", refresh),
        v("ca", ca), v("timeout", timeout);
  }
};

/// Until the gets of these WHATs, or without any all gets of this node, have ended. Notes of Progress and Outcomes come
/// before the reply. A get that ended before is answered from memory; without WHATs only those nobody has heard of.
struct Wait {
  static constexpr const char* name = "wait";
  using Reply = GetReply;
  std::vector<std::string> whats;
  int seconds = 0;                    ///< answer after so long, whatever the state; 0: wait to the end
  std::vector<std::int64_t> numbers;  ///< of the gets that an earlier answer named: these, whatever the WHATs say
  template <class V>
  void describe(V& v) {
    v("whats", whats), v("seconds", seconds), v("numbers", numbers);
  }
};

struct Cancelled {
  static constexpr const char* name = "cancelled";
  std::vector<std::string> stopped;    ///< what was under way and is not any more
  std::vector<std::string> discarded;  ///< paths whose partial was dropped
  template <class V>
  void describe(V& v) {
    v("stopped", stopped), v("discarded", discarded);
  }
};

/// Stop getting what these WHATs name, in every get of this node.
struct Cancel {
  static constexpr const char* name = "cancel";
  using Reply = Cancelled;
  std::vector<std::string> whats;
  bool discard = false;
  template <class V>
  void describe(V& v) {
    v("whats", whats), v("discard", discard);
  }
};

struct Deleted {
  static constexpr const char* name = "deleted";
  std::vector<std::string> paths;  ///< of what was deleted, the first `page_entries`; directories end with '/'
  std::int64_t count = 0;          ///< of all
  std::int64_t bytes = 0;
  std::vector<std::string> errors;
  std::vector<std::string> missing;  ///< WHATs of which nothing was there
  int status = 0;                    ///< of the errors
  template <class V>
  void describe(V& v) {
    v("paths", paths), v("count", count), v("bytes", bytes), v("errors", errors), v("missing", missing),
        v("status", status);
  }
};

/// Delete what these WHATs name from this node's files dir.
struct Delete {
  static constexpr const char* name = "delete";
  using Reply = Deleted;
  std::vector<std::string> whats;
  template <class V>
  void describe(V& v) {
    v("whats", whats);
  }
};

struct Ordered {
  static constexpr const char* name = "ordered";
  std::string body;  ///< the bencoded reply
  template <class V>
  void describe(V& v) {
    v("body", body);
  }
};

/// To a node, from another by way of the tracker: do this as if a command of your own had asked. The node may refuse by
/// its configuration.
struct Order {
  static constexpr const char* name = "order";
  using Reply = Ordered;
  std::string kind;   ///< the name of the request: get, wait, cancel, delete
  std::string body;   ///< the bencoded request
  std::string asker;  ///< the name of the node that asks, for the log
  template <class V>
  void describe(V& v) {
    v("kind", kind), v("body", body), v("asker", asker);
  }
};

struct Relayed {
  static constexpr const char* name = "relayed";
  struct Answer {
    std::string node;
    std::string body;
    int status = 0;
    std::string error;
    template <class V>
    void describe(V& v) {
      v("node", node), v("body", body), v("status", status), v("error", error);
    }
  };
  std::vector<Answer> answers;
  /// Nodes that were in the mesh since the tracker began and are not now.
  std::vector<std::string> absent;
  template <class V>
  void describe(V& v) {
    v("answers", answers), v("absent", absent);
  }
};

/// To the tracker: pass an order on to these nodes (none: to all), and say what each answered.
struct Relay {
  static constexpr const char* name = "relay";
  using Reply = Relayed;
  std::vector<std::string> nodes;
  Order order;
  template <class V>
  void describe(V& v) {
    v("nodes", nodes), v("order", order);
  }
};

struct StreamEnd {
  static constexpr const char* name = "stream-end";
  std::int64_t size = 0;
  std::int64_t from_sources = 0;
  std::int64_t from_getters = 0;
  template <class V>
  void describe(V& v) {
    v("size", size), v("src", from_sources), v("get", from_getters);
  }
};

/// A note to the asker of a piped Get: what follows are the bytes of this file, from its beginning.
struct StreamBegin {
  static constexpr const char* name = "stream-begin";
  std::string path;
  std::int64_t size = 0;
  ContentId id;
  template <class V>
  void describe(V& v) {
    v("path", path), v("size", size), v("id", id);
  }
};

/// A note to the asker of a Stream, or of a piped Get: the next bytes.
struct StreamData {
  static constexpr const char* name = "stream-data";
  std::string data;
  template <class V>
  void describe(V& v) {
    v("data", data);
  }
};

/// The bytes of one file, in order, as StreamData notes before the reply, without putting it into the files dir.
struct Stream {
  static constexpr const char* name = "stream";
  using Reply = StreamEnd;
  std::string path;
  std::string from;
  bool strict = false;
  std::int64_t spool = 0;  ///< bytes kept in the state directory at once; 0: the whole file
  template <class V>
  void describe(V& v) {
    v("path", path), v("from", from), v("strict", strict), v("spool", spool);
  }
};

/// A note to the asker of a Get, a few times a second.
struct Progress {
  static constexpr const char* name = "progress";
  std::vector<TransferInfo> active;
  std::int64_t done = 0;
  std::int64_t total = 0;
  std::int64_t rate = 0;
  int files_done = 0;
  int files_total = 0;
  int peers = 0;
  std::string phase;  ///< what is being waited for when nothing moves
  template <class V>
  void describe(V& v) {
    v("active", active), v("done", done), v("total", total), v("rate", rate), v("fdone", files_done),
        v("ftotal", files_total), v("peers", peers), v("phase", phase);
  }
};

/// What is wrong with an entry that came from the network, in words; empty when nothing is.
[[nodiscard]] std::string entry_fault(const FileEntry& entry);

}  // namespace mesh
