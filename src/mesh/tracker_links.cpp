#include "mesh/tracker_links.h"

#include <algorithm>

#include "core/format.h"

namespace mesh {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

namespace {

/// When no tracker answers for so long, another way is tried: longer for one that was there a while ago, as it may be
/// restarting, and everybody would turn to everybody.
constexpr auto fall_back_after = milliseconds(1500);
constexpr auto fall_back_after_loss = milliseconds(3000);
constexpr auto a_while = seconds(60);
constexpr auto same_again = seconds(30);  // a tracker to which another name leads

}  // namespace

struct TrackerLinks::Link {
  std::string address;
  ChannelPtr channel;
  bool told_all = true;                          ///< it is to be told everything, and not what changes alone
  bool told = false;                             ///< the inventory that was there at the start has been sent
  bool registered = false;                       ///< told, and the first scan is over
  Clock::time_point lost = Clock::now();         ///< since when it is not registered
  std::optional<Clock::time_point> was_there{};  ///< when it was registered last
  std::string trouble = "not tried yet";
  std::string known_by;  ///< another name of the same tracker, by which this node is known there
  bool is_over = false;  ///< it is named no more
};

struct TrackerLinks::Shared {
  Shared(asio::io_context& context, Facts given, const Handlers& answers)
      : io(context), facts(std::move(given)), handlers(answers), changed(context) {}
  asio::io_context& io;
  Facts facts;
  const Handlers& handlers;
  Event changed;
  std::vector<std::shared_ptr<Link>> links;
  std::vector<std::shared_ptr<Link>> adopted;  ///< of channels that others opened
  std::mt19937 random{std::random_device{}()};
  bool closed = false;

  /// Every channel on which this node is known.
  [[nodiscard]] std::vector<std::shared_ptr<Link>> all() const {
    auto out = links;
    out.insert(out.end(), adopted.begin(), adopted.end());
    std::erase_if(out, [](const auto& link) { return !link->channel || !link->channel->is_open(); });
    return out;
  }
  [[nodiscard]] bool serves(const std::string& address) const {
    return !address.empty() &&
           std::ranges::any_of(links, [&](const auto& link) { return link->address == address && link->registered; });
  }
  [[nodiscard]] bool has_lost_all() const {
    const auto now = Clock::now();
    return std::ranges::all_of(links, [&](const auto& link) {
      if (link->registered) return false;
      const bool recently = link->was_there && now - *link->was_there < a_while;
      return now - link->lost >= (recently ? fall_back_after_loss : fall_back_after);
    });
  }
  void finish(Link& link) {
    if (link.registered || !link.told || !facts.scan_complete()) return;
    InventoryDelta last;
    last.end = true;
    link.channel->note(last);
    link.registered = true;
    link.trouble.clear();
    changed.notify();
  }
};

TrackerLinks::TrackerLinks(asio::io_context& io, std::vector<std::string> trackers, Facts facts,
                           const Handlers& handlers)
    : shared_(std::make_shared<Shared>(io, std::move(facts), handlers)) {
  replace(std::move(trackers));
}

void TrackerLinks::add(const std::string& name) {
  auto link = std::make_shared<Link>();
  link->address = name;
  shared_->links.push_back(link);
  spawn(shared_->io, keep(shared_, link));
}

void TrackerLinks::replace(std::vector<std::string> trackers) {
  names_ = std::move(trackers);
  std::ranges::sort(names_);
  names_.erase(std::unique(names_.begin(), names_.end()), names_.end());
  auto& links = shared_->links;
  for (const auto& link : links)
    if (!std::ranges::binary_search(names_, link->address)) {
      link->is_over = true;
      if (link->channel) link->channel->close();
    }
  std::erase_if(links, [](const auto& link) { return link->is_over; });
  for (const auto& name : names_)
    if (std::ranges::find(links, name, [](const auto& link) { return link->address; }) == links.end()) add(name);
  // In sorted order, as the first that knows this node is asked.
  std::ranges::sort(links, {}, [](const auto& link) { return link->address; });
  shared_->changed.notify();
}

TrackerLinks::~TrackerLinks() { close(); }

void TrackerLinks::reconnect() {
  for (const auto& link : shared_->all()) link->channel->close();
}

void TrackerLinks::close() {
  shared_->closed = true;
  for (const auto& link : shared_->all()) link->channel->close();
  shared_->changed.notify();
}

Task<void> TrackerLinks::keep(std::shared_ptr<Shared> shared, std::shared_ptr<Link> link) {
  int wait = 100;
  std::string said;
  const auto is_over = [&] { return shared->closed || link->is_over; };
  const auto say = [&] {
    if (!is_over() && said != link->trouble)
      shared->facts.log(
          warning("tracker " + link->address + ": " + link->trouble + (link->known_by.empty() ? "; trying again" : ""))
              .of("tracker-lost")
              .by(link->address));
    said = link->trouble;
  };
  while (!is_over()) {
    try {
      link->channel = co_await connect_channel(link->address, "/control", seconds(5), shared->facts.access);
      if (is_over()) break;
      link->told = link->registered = false;
      link->trouble = "registering";
      spawn(shared->io, enlist(shared, link));
      co_await link->channel->run(shared->handlers);
      if (link->registered) wait = 100, said.clear();
      if (link->trouble.empty() || link->trouble == "registering") link->trouble = "the connection was lost";
      say();
    } catch (const Error& error) {
      link->trouble = error.what();
      if (link->trouble.starts_with(link->address + ": ")) link->trouble.erase(0, link->address.size() + 2);
      say();
    }
    link->channel.reset();
    if (std::exchange(link->registered, false)) link->was_there = link->lost = Clock::now();
    shared->changed.notify();
    const auto again = Clock::now() + milliseconds(std::uniform_int_distribution<int>(wait / 2, wait)(shared->random));
    while (!is_over() && Clock::now() < again)
      co_await shared->changed.wait_for(std::chrono::ceil<milliseconds>(again - Clock::now()));
    wait = std::min(wait * 2, 2000);
    // Where another link leads to the same tracker, this one is for when that is lost.
    for (const auto until = Clock::now() + same_again; !is_over() && shared->serves(link->known_by);) {
      if (Clock::now() >= until) break;
      co_await shared->changed.wait_for(std::chrono::ceil<milliseconds>(until - Clock::now()));
    }
    link->known_by.clear();
  }
}

Task<void> TrackerLinks::enlist(std::shared_ptr<Shared> shared, std::shared_ptr<Link> link) {
  const auto channel = link->channel;
  try {
    Hello hello = shared->facts.hello();
    hello.via = link->address;
    hello.proof = shared->facts.prove(*channel);
    const Welcome welcome = co_await channel->request(hello, seconds(10));
    if (welcome.taken) {
      shared->facts.taken(hello.instance, welcome);
      throw Error(Status::refused, "another node has this one's identity");
    }
    if (welcome.here_already) {
      link->known_by = welcome.via;
      throw Error(Status::refused, "is the tracker " + printable(welcome.via) + " by another name");
    }
    shared->facts.welcomed(welcome);
    if (!welcome.known_as.empty())
      shared->facts.log(warning("another node of the mesh is called " + hello.node + ", too: this one is known as " +
                                welcome.known_as + " meanwhile; give each a --name of its own"));
    if (!link->told_all) {
      link->told = true;
      shared->finish(*link);
      co_return;
    }
    InventoryDelta page;
    page.begin = true;
    for (std::string after;;) {
      page.put = shared->facts.page(after, page_entries);
      if (page.put.empty() && !page.begin) break;
      if (!page.put.empty()) after = page.put.back().path;
      channel->note(page);
      if (page.put.empty()) break;
      page.begin = false;
      co_await channel->drained();
    }
    if (link->channel != channel) co_return;
    link->told = true;
    shared->finish(*link);
    for (auto ready : shared->facts.loaded()) {
      if (link->address.empty()) ready.shares = false;  // plans are a tracker's
      std::optional<Error> trouble;
      try {
        co_await channel->request(ready, seconds(10));
      } catch (const Error& error) {
        trouble = error;  // while keys change, the swarm may go on under the other one
      }
      if (trouble && !channel->is_open()) throw *trouble;
    }
    if (!link->address.empty())
      shared->facts.log(
          LogLine("tracker " + link->address + ": registered").of("tracker-registered").by(link->address));
  } catch (const Error& error) {
    link->trouble = error.what();
    channel->close();
  }
}

void TrackerLinks::adopt(ChannelPtr channel, bool told_all) {
  auto link = std::make_shared<Link>();
  link->channel = std::move(channel);
  link->told_all = told_all;
  std::erase_if(shared_->adopted, [](const auto& old) { return !old->channel->is_open(); });
  shared_->adopted.push_back(link);
  spawn(shared_->io, enlist(shared_, link));
}

bool TrackerLinks::is_told(const ChannelPtr& channel) const {
  return std::ranges::any_of(shared_->adopted,
                             [&](const auto& link) { return link->channel == channel && link->registered; });
}

void TrackerLinks::tell_ready(const JoinSwarm& ready, const ChannelPtr& channel) {
  auto tell = [](ChannelPtr to, JoinSwarm what) -> Task<void> {
    try {
      static_cast<void>(co_await to->request(what, seconds(10)));
    } catch (const std::exception&) {
      // It will be told when it is back.
    }
  };
  JoinSwarm told = ready;
  told.shares = false;  // plans come from the one that was asked
  for (const auto& link : shared_->all())
    if (link->told && link->channel != channel) spawn(shared_->io, tell(link->channel, told));
}

Task<ChannelPtr> TrackerLinks::first(milliseconds limit) {
  const auto shared = shared_;
  const auto deadline = Clock::now() + limit;
  if (shared->links.empty() && !shared->facts.fallback)
    throw Error(Status::unreachable,
                "no tracker is known; name one with --tracker HOST:PORT, MESH_TRACKER or the configuration file");
  for (;;) {
    for (const auto& link : shared->links)
      if (link->registered && link->channel && link->channel->is_open()) co_return link->channel;
    // A node that is still scanning its files has a tracker, only not yet a whole inventory to show to it.
    const bool alone = shared->facts.fallback && shared->has_lost_all();
    const bool scanning =
        !shared->facts.scan_complete() &&
        (alone || std::ranges::any_of(shared->links, [](const auto& link) { return link->told && link->channel; }));
    if (!shared->closed && !scanning && alone) {
      const ChannelPtr channel = co_await shared->facts.fallback(limit);
      if (channel) co_return channel;
      if (shared->links.empty() && shared->facts.is_alone && shared->facts.is_alone()) break;
    }
    if (shared->closed || (Clock::now() >= deadline && !scanning)) break;
    co_await sleep_for(milliseconds(10));
  }
  if (shared->links.empty())
    throw Error(Status::unreachable,
                "no tracker is known, nor another node; name one with --tracker HOST:PORT, MESH_TRACKER or the "
                "configuration file, or a node with --peer HOST:PORT");
  std::string text = "no tracker is reachable:";
  for (const auto& link : shared->links)
    text += " " + link->address + " (" + (link->trouble.empty() ? "registering" : link->trouble) + ")";
  if (shared->facts.fallback) text += "; nor is another node that is known";
  throw Error(Status::unreachable, text);
}

std::vector<TrackerChecked> TrackerLinks::states() const {
  std::vector<TrackerChecked> out;
  for (const auto& link : shared_->links)
    out.push_back({link->address, link->registered ? "" : link->trouble.empty() ? "registering" : link->trouble});
  return out;
}

bool TrackerLinks::is_alone() const {
  const auto& facts = shared_->facts;
  return names_.empty() && (!facts.fallback || (facts.is_alone && facts.is_alone()));
}

bool TrackerLinks::any() const {
  return std::ranges::any_of(shared_->links, [](const auto& link) { return link->registered; });
}

void TrackerLinks::note_all(const InventoryDelta& delta) {
  // A node that has not told its inventory yet sends deltas all the same: each says how things are now.
  const auto links = shared_->all();
  for (const auto& page : in_pages(delta))
    for (const auto& link : links) link->channel->note(page);
}

void TrackerLinks::note_all(const Unloaded& note) {
  for (const auto& link : shared_->all()) link->channel->note(note);
}

void TrackerLinks::scan_completed() {
  for (const auto& link : shared_->all()) shared_->finish(*link);
}

}  // namespace mesh
