// Ranges from nodes over real channels: of holders that send what they should, and of such that do not.
#include "transfer/range_fetcher.h"

#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <optional>

#include "core/piece_plan.h"
#include "disk/state_dir.h"
#include "process.h"
#include "test.h"
#include "wire/server.h"

using namespace mesh;
using mesh::test::noise;
using std::chrono::milliseconds;
using std::chrono::seconds;
namespace fs = std::filesystem;

namespace {

constexpr std::size_t mb = 1 << 20;

/// Nodes with a content, and one that reads it.
struct Holders {
  explicit Holders(std::size_t size) : bytes(noise(size, 1)) {
    fs::create_directories(root / "files");
    state = std::make_unique<StateDir>(root / "state", Trust{});
    Library::Options options;
    options.files = root / "files";
    library = std::make_unique<Library>(workers.loop(), *state, options, [](const LogLine&) {});
    library->on_change = [](const Library::Change&) {};
    TrackerLinks::Facts facts;
    facts.hello = [] { return Hello{}; };
    facts.log = [](const LogLine&) {};
    links = std::make_unique<TrackerLinks>(io, std::vector<std::string>{}, std::move(facts), none);
    Access access;
    access.open = true;
    channels = std::make_unique<NodeChannels>(workers, access, *links, none);
    layout = layout_of();
    wanted.path = "disk.img";
    wanted.size = std::ssize(bytes);
    wanted.id = layout.count() == 1 ? layout.roots[0] : content_id_of_pieces(layout.roots, layout.piece_length);
  }
  ~Holders() {
    workers.stop();
    channels->close();
    links->close();
    servers.clear();
    io.restart();
    io.run_for(milliseconds(200));
    workers.join();
    library.reset();
    fs::remove_all(root);
  }
  Holders(const Holders&) = delete;
  Holders& operator=(const Holders&) = delete;

  PieceLayout layout_of() const {
    PieceLayout out;
    out.size = std::ssize(bytes);
    out.piece_length = piece_length_for(out.size);
    out.hashes.resize(static_cast<std::size_t>(piece_count_for(out.size)));
    for (int piece = 0; piece < out.count(); ++piece)
      out.roots.push_back(root_of_piece(piece_bytes(piece, out), out.piece_length, out.count() == 1));
    return out;
  }
  std::string_view piece_bytes(int piece, const PieceLayout& of) const {
    return std::string_view(bytes).substr(static_cast<std::size_t>(piece * of.piece_length),
                                          static_cast<std::size_t>(of.length_of(piece)));
  }
  /// What a good holder says.
  RangeTold right(const RangeAsk& asked) const {
    RangeTold out;
    out.data = bytes.substr(static_cast<std::size_t>(asked.offset), static_cast<std::size_t>(asked.length));
    for (const auto piece : asked.pieces) {
      std::vector<Sha256> leaves;
      append_leaves(blocks_of(piece_bytes(static_cast<int>(piece), layout)), leaves);
      out.leaves.push_back(tell_leaves(leaves));
    }
    if (asked.roots && layout.count() > 1)
      for (const auto& one : layout.roots) out.roots += one.view();
    return out;
  }
  using Answer = std::function<Task<RangeTold>(RangeAsk)>;
  /// A node that answers so; how often it was asked is counted.
  NodeRef node(const std::string& name, Answer answer) {
    auto& handlers = *handlers_.emplace_back(std::make_unique<Handlers>());
    handlers.on<RangeAsk>([this, name, answer](ChannelPtr, RangeAsk asked) -> Task<RangeTold> {
      ++asked_[name];
      last[name] = asked;
      return answer(std::move(asked));
    });
    Access access;
    access.open = true;
    servers.push_back(std::make_unique<Server>(
        io, asio::ip::tcp::endpoint(asio::ip::address_v4::loopback(), 0), Server::OnHttp{},
        [&handlers](std::string, ChannelPtr channel) -> Task<void> { return channel->run(handlers); },
        ConnectionLimits{}, access));
    NodeRef out;
    out.name = name;
    out.instance = name;
    out.addresses = {"127.0.0.1"};
    out.channel_port = servers.back()->local().port();
    return out;
  }
  NodeRef good(const std::string& name) {
    return node(name, [this](RangeAsk asked) -> Task<RangeTold> { co_return right(asked); });
  }
  RangeFetcherPtr fetcher(const std::vector<NodeRef>& nodes, NodeRef self = {}) {
    auto out = std::make_shared<RangeFetcher>(
        workers, *library, *links, *channels, [this](const LogLine& line) { log += line.text + "\n"; }, wanted,
        [self] { return self; });
    out->add_holders(nodes);
    return out;
  }
  /// Learns and fetches; empty where that fails.
  std::string fetch(const RangeFetcherPtr& from, std::int64_t offset, std::int64_t length,
                    milliseconds limit = seconds(10)) {
    std::optional<std::string> out;
    bool over = false;
    auto body = [](RangeFetcherPtr one, std::int64_t at, std::int64_t size, milliseconds time,
                   std::optional<std::string>& result, bool& done) -> Task<void> {
      try {
        const auto until = RangeFetcher::Clock::now() + time;
        const auto now = std::make_shared<const bool>(true);
        if (one->file().layout.size == 0) co_await one->learn(at, until);
        result = co_await one->fetch(at, size, until, false, now);
      } catch (const Error&) {
        // Nobody brings it.
      }
      done = true;
    };
    spawn(io, body(from, offset, length, limit, out, over));
    while (!over) {
      io.restart();
      io.run_for(milliseconds(5));
    }
    return out.value_or("");
  }

  bool is_right(const RangeFetcherPtr& from, std::int64_t offset, std::int64_t length) {
    const auto right = bytes.substr(static_cast<std::size_t>(offset), static_cast<std::size_t>(length));
    return fetch(from, offset, length) == right;
  }

  std::string bytes;
  PieceLayout layout;
  FileEntry wanted;
  fs::path root = fs::temp_directory_path() / ("range-fetcher-" + std::to_string(::getpid()));
  asio::io_context io{1};
  Workers workers{io};
  Handlers none;
  std::unique_ptr<StateDir> state;
  std::unique_ptr<Library> library;
  std::unique_ptr<TrackerLinks> links;
  std::unique_ptr<NodeChannels> channels;
  std::vector<std::unique_ptr<Handlers>> handlers_;
  std::vector<std::unique_ptr<Server>> servers;
  std::map<std::string, int> asked_;
  std::map<std::string, RangeAsk> last;
  std::string log;
};

}  // namespace

TEST_CASE("ranges: the first question brings roots, leaves and bytes; what is known is not asked again") {
  Holders mesh(3 * mb + 77);
  const auto from = mesh.fetcher({mesh.good("a")});
  CHECK(mesh.is_right(from, 65'536, 65'536));
  CHECK(mesh.asked_["a"] == 1);
  CHECK(mesh.last["a"].roots);
  CHECK(mesh.is_right(from, 131'072, 262'144));
  CHECK_FALSE(mesh.last["a"].roots);
  CHECK(mesh.last["a"].pieces.size() == 4);
  CHECK(mesh.is_right(from, 65'536, 65'536));
  CHECK(mesh.last["a"].pieces.empty());
  const auto end = 3 * static_cast<std::int64_t>(mb);
  CHECK(mesh.is_right(from, end, 77));
  // Another one knows what this one has left.
  const auto other = mesh.fetcher({mesh.good("b")});
  CHECK(mesh.is_right(other, 65'536, 65'536));
  CHECK_FALSE(mesh.last["b"].roots);
  CHECK(mesh.last["b"].pieces.empty());
}

TEST_CASE("ranges: whatever a holder sends, what comes out is right, and from somebody else") {
  Holders mesh(2 * mb);
  using Spoil = std::function<void(RangeTold&)>;
  const std::vector<std::pair<const char*, Spoil>> all = {
      {"a wrong byte",
       [](RangeTold& told) {
         if (!told.data.empty()) told.data.back() ^= 1;
       }},
      {"nothing", [](RangeTold& told) { told.data.clear(); }},
      {"too much", [](RangeTold& told) { told.data += std::string(100, 'x'); }},
      {"less than a block", [](RangeTold& told) { told.data.resize(100); }},
      {"no leaves", [](RangeTold& told) { told.leaves.clear(); }},
      {"wrong leaves",
       [](RangeTold& told) {
         if (!told.leaves.empty()) told.leaves[0][5] ^= 1;
       }},
      {"leaves of another length",
       [](RangeTold& told) {
         if (!told.leaves.empty()) told.leaves[0] += std::string(32, 'x');
       }},
      {"wrong roots",
       [](RangeTold& told) {
         if (!told.roots.empty()) told.roots.back() ^= 1;
       }},
      {"no roots", [](RangeTold& told) { told.roots.clear(); }},
      {"huge roots", [](RangeTold& told) { told.roots += std::string(4 * mb, 'x'); }},
  };
  for (const auto& [what, spoil] : all) {
    CAPTURE(what);
    mesh.asked_.clear();
    const auto bad = mesh.node("bad", [&mesh, spoil = spoil](RangeAsk asked) -> Task<RangeTold> {
      auto told = mesh.right(asked);
      if (asked.roots && told.roots.empty()) told.roots = "x";
      spoil(told);
      co_return told;
    });
    auto good = mesh.good("good");
    mesh.wanted.path = what;
    // Alone it brings nothing.
    mesh.library->db().put_roots(mesh.wanted.id, "");
    const auto alone = mesh.fetcher({bad});
    CHECK(mesh.fetch(alone, 0, 65'536, milliseconds(300)).empty());
    mesh.library->db().put_roots(mesh.wanted.id, "");
    const auto both = mesh.fetcher({bad, good});
    for (std::int64_t offset = 0; offset < std::ssize(mesh.bytes); offset += 65'536)
      CHECK(mesh.is_right(both, offset, 65'536));
    // (One whose roots alone were wrong is right from then on.)
    if (std::string(what).find("roots") == std::string::npos) CHECK(mesh.asked_["bad"] < 8);
    fs::remove_all(mesh.root / "state/blocks");
  }
  CHECK(mesh.log.find("bad: sent wrong bytes; nothing more of it is read there") != std::string::npos);
}

TEST_CASE("ranges: one that is silent, or dead, is not waited for") {
  Holders mesh(2 * mb);
  auto silent = mesh.node("silent", [](RangeAsk) -> Task<RangeTold> {
    co_await sleep_for(seconds(60));
    co_return RangeTold{};
  });
  auto dead = mesh.good("dead");
  mesh.servers.back()->close();
  const auto from = mesh.fetcher({silent, dead, mesh.good("good")});
  const auto begun = RangeFetcher::Clock::now();
  for (std::int64_t offset = 0; offset < std::ssize(mesh.bytes); offset += 65'536)
    CHECK(mesh.is_right(from, offset, 65'536));
  // Once for a second, and then not again for a while.
  CHECK(mesh.asked_["silent"] <= 3);
  CHECK(RangeFetcher::Clock::now() - begun < seconds(20));
}

TEST_CASE("ranges: others that read it are asked for their share, and a holder where they have nothing") {
  Holders mesh(4 * mb);
  const bool has_bytes = GENERATE(true, false);
  CAPTURE(has_bytes);
  auto reader = mesh.node("reader", [&mesh, has_bytes](RangeAsk asked) -> Task<RangeTold> {
    if (!has_bytes) throw Error(Status::not_found, "does not have it");
    co_return mesh.right(asked);
  });
  auto holder = mesh.node("holder", [&mesh, reader](RangeAsk asked) -> Task<RangeTold> {
    auto told = mesh.right(asked);
    told.readers_stamp = 1;
    if (asked.readers_stamp != 1) told.readers = {reader};
    co_return told;
  });
  NodeRef self;
  self.name = self.instance = "self";
  self.channel_port = 1;
  const auto from = mesh.fetcher({holder}, self);
  for (std::int64_t offset = 0; offset < std::ssize(mesh.bytes); offset += 65'536)
    CHECK(mesh.is_right(from, offset, 65'536));
  if (has_bytes) {
    CHECK(mesh.asked_["reader"] > 16);
    CHECK(mesh.asked_["holder"] > 16);
    CHECK(mesh.last["reader"].bring);
    CHECK_FALSE(mesh.last["holder"].bring);
    CHECK(mesh.last["holder"].self.instance == "self");
    CHECK(mesh.last["holder"].readers_stamp == 1);
  } else {
    CHECK(mesh.asked_["reader"] < 8);
  }
}
