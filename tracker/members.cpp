#include "members.h"

#include <algorithm>

#include "core/address.h"
#include "core/format.h"
#include "wire/identity.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr auto presence_limit = seconds(2);
constexpr auto settle_limit = seconds(2);  // nodes reconnect within this after a restart
constexpr std::size_t most_former = 16;
constexpr std::size_t most_absent = 10'000;
constexpr auto name_kept = std::chrono::minutes(1);  // for a node that may be back in a moment
constexpr std::ptrdiff_t most_members_told = 32;
constexpr std::size_t most_known_of = 20'000;
constexpr auto arrival_limit = seconds(3);
constexpr std::ptrdiff_t most_visited = 12;  // channels that a view keeps to nodes that it has asked something
constexpr std::size_t most_visits = 8;       // at once
constexpr std::size_t most_addresses = 32;
constexpr auto prune_every = seconds(10);

bool is_sensible_address(const std::string& text) {
  const auto address = parse_address(text);
  return address && is_of_a_host(*address);
}

}  // namespace

void Members::opened(const ChannelPtr& channel) {
  if (is_brief()) silent_[channel.get()] = Clock::now();
}

void Members::closed(const ChannelPtr& channel) {
  silent_.erase(channel.get());
  const auto it = by_channel_.find(channel.get());
  if (it == by_channel_.end()) return;
  const auto key = it->second;
  auto& node = nodes_.at(key);
  if (node.rests) {
    by_channel_.erase(it);
    node.channel.reset();
    if (on_rested) on_rested(key);
    return;
  }
  // This node's own: the view is over.
  const bool is_over = is_brief() && node.seen.is_unspecified();
  if (is_over) forget_known_of(true);
  drop(key);
  if (is_over && on_view_over) on_view_over();
}

void Members::rest(const ChannelPtr& channel, milliseconds lease) {
  const auto it = by_channel_.find(channel.get());
  if (it == by_channel_.end()) return;
  auto& node = nodes_.at(it->second);
  node.rests = true;
  node.rests_until = Clock::now() + lease;
}

void Members::expire_resting() {
  const auto now = Clock::now();
  if (now - expired_ < seconds(1)) return;
  expired_ = now;
  std::vector<NodeKey> over;
  for (const auto& [key, node] : nodes_)
    if (node.rests && !node.channel && node.rests_until <= now) over.push_back(key);
  for (const auto key : over) drop(key);
}

Members::Node* Members::instance_of(const std::string& instance) {
  const auto it = by_instance_.find(instance);
  return it == by_instance_.end() ? nullptr : &nodes_.at(it->second);
}

void Members::forget_known_of(bool all) {
  std::vector<NodeKey> known_of;
  for (const auto& [key, node] : nodes_)
    if (node.is_known_of && (all || !node.channel)) known_of.push_back(key);
  for (const auto key : known_of) {
    const auto channel = nodes_.at(key).channel;
    const auto name = nodes_.at(key).hello.node;
    drop(key);
    absent_.erase(name);  // it has not left
    if (channel) channel->close();
  }
}

std::optional<NodeKey> Members::know_of(const NodeRef& node, bool head) {
  const bool is_sensible = is_instance(node.instance) && node_name_fault(node.name).empty() &&
                           !node.addresses.empty() && node.addresses.size() <= most_addresses &&
                           node.channel_port != 0 && std::ranges::all_of(node.addresses, is_sensible_address);
  if (!is_sensible) return std::nullopt;
  if (auto* known = instance_of(node.instance)) {
    if (known->is_known_of && !known->channel) {
      known->hello.addresses = node.addresses;
      known->hello.peer_port = node.peer_port;
      known->hello.channel_port = node.channel_port;
      known->hello.head = known->hello.head || head;
      rename(*known, node.name);
    } else if (known->is_known_of) {
      known->hello.head = known->hello.head || head;
    }
    return known->key;
  }
  if (nodes_.size() >= most_known_of) forget_known_of(false);
  if (nodes_.size() >= most_known_of) return std::nullopt;
  Hello hello;
  hello.version = protocol_version;
  hello.instance = node.instance;
  hello.node = node.name;
  hello.addresses = node.addresses;
  hello.advertised = true;
  hello.peer_port = node.peer_port;
  hello.channel_port = node.channel_port;
  hello.head = head;
  claim_name(hello);
  const auto key = next_key_++;
  ++names_[hello.node];
  absent_.erase(hello.node);
  by_instance_[hello.instance] = key;
  Node fresh;
  fresh.key = key;
  fresh.hello = std::move(hello);
  fresh.registered = true;
  fresh.since = Clock::now();
  fresh.is_known_of = true;
  nodes_[key] = std::move(fresh);
  return key;
}

void Members::rename(Node& node, const std::string& name) {
  if (node.hello.node == name) return;
  if (--names_[node.hello.node] == 0) names_.erase(node.hello.node);
  node.hello.node = name;
  ++names_[name];
  claim_name(node.hello);
}

Task<ChannelPtr> Members::reach(NodeKey key) {
  const auto* node = find(key);
  if (node == nullptr) throw Error(Status::unreachable, "the node is gone");
  nodes_.at(key).asked_last = Clock::now();
  if (node->channel) co_return node->channel;
  if (!visit) throw Error(Status::unreachable, name_of(*node) + ": is not connected");
  std::function<Task<ChannelPtr>()> work = [this, key]() -> Task<ChannelPtr> {
    const auto* whom = find(key);
    if (whom == nullptr) throw Error(Status::unreachable, "the node is gone");
    if (whom->channel) co_return whom->channel;
    const auto name = name_of(*whom);
    const NodeRef to = {key,
                        whom->hello.node,
                        whom->hello.addresses,
                        whom->hello.peer_port,
                        whom->hello.channel_port,
                        whom->hello.instance};
    const auto arrival = std::make_shared<Event>(io_);
    nodes_.at(key).arrival = arrival;
    ChannelPtr channel;
    std::string trouble = "is not the node that it was";
    try {
      channel = co_await visit(to);
      (*expected_)[channel.get()] = to.instance;
      const std::shared_ptr<void> expecting(nullptr,
                                            [all = expected_, asked = channel.get()](void*) { all->erase(asked); });
      const auto until = Clock::now() + arrival_limit;
      while (channel->is_open() && Clock::now() < until) {
        const auto* now = find(key);
        if (now == nullptr) break;
        if (now->channel) co_return now->channel;
        co_await arrival->wait_for(milliseconds(50));
      }
      channel->close();
    } catch (const Error& error) {
      trouble = error.what();
    }
    const auto* now = find(key);
    if (now != nullptr && now->channel) co_return now->channel;
    if (now != nullptr) drop(key);
    throw Error(Status::unreachable, name + ": " + trouble);
  };
  if (visits_.is_running(key)) co_return co_await visits_.run(key, std::move(work));
  // So many at once, and no more channels than there were room for.
  co_await visiting_.fewer_than(most_visits);
  hang_up_some();
  const auto outcome = std::make_shared<std::pair<ChannelPtr, std::optional<Error>>>();
  auto go = [](Members* self, NodeKey whom, std::function<Task<ChannelPtr>()> how,
               std::shared_ptr<std::pair<ChannelPtr, std::optional<Error>>> out,
               std::shared_ptr<Event> over) -> Task<void> {
    try {
      out->first = co_await self->visits_.run(whom, std::move(how));
    } catch (const Error& error) {
      out->second = error;
    } catch (const std::exception& error) {
      out->second = Error(Status::failed, error.what());
    }
    over->notify();
  };
  const auto over = std::make_shared<Event>(io_);
  visiting_.add(go(this, key, std::move(work), outcome, over));
  while (!outcome->first && !outcome->second) co_await over->wait_for(milliseconds(500));
  if (outcome->second) throw Error(*outcome->second);
  co_return outcome->first;
}

/// Of the nodes that were visited, those that nobody has asked anything for longest.
void Members::hang_up_some() {
  std::vector<Node*> idle;
  std::ptrdiff_t visited = 0;
  for (auto& [key, node] : nodes_) {
    if (!node.is_known_of || !node.channel) continue;
    ++visited;
    if (!node.channel->is_waiting() && !visits_.is_running(key)) idle.push_back(&node);
  }
  std::ranges::sort(idle, {}, &Node::asked_last);
  for (auto* node : idle) {
    if (visited-- < most_visited) return;
    // It stays a member, and is visited again.
    const auto channel = std::exchange(node->channel, nullptr);
    by_channel_.erase(channel.get());
    channel->close();
  }
}

void Members::check(const ChannelPtr& channel, const Hello& hello) const {
  if (hello.version != protocol_version)
    throw Error(Status::refused, "this tracker speaks protocol " + std::to_string(protocol_version) + ", " +
                                     printable(hello.node) + " speaks " + std::to_string(hello.version) +
                                     "; install one version everywhere");
  if (by_channel_.contains(channel.get())) throw Error(Status::refused, "a second hello on one channel");
  if (const auto fault = node_name_fault(hello.node); !fault.empty()) throw Error(Status::refused, fault);
  if (const auto visited = expected_->find(channel.get());
      visited != expected_->end() && visited->second != hello.instance)
    throw Error(Status::refused, "is not the node that was visited");
  if (hello.addresses.size() > 32 || hello.former.size() > most_former ||
      !std::ranges::all_of(hello.former, is_instance) || !std::ranges::all_of(hello.addresses, is_sensible_address))
    throw Error(Status::refused, "no sensible hello");
  if (!is_proven(hello.instance, hello.public_key, Hello::name, channel->binding(), hello.proof))
    throw Error(Status::refused, printable(hello.node) + ": does not prove that it is the node that it says it is");
}

Task<std::optional<Welcome>> Members::refusal(Hello hello) const {
  std::vector<std::pair<ChannelPtr, Hello>> others;
  for (const auto& [key, node] : nodes_) {
    // A program that comes again has lost its connection.
    const bool again = node.hello.run == hello.run && node.hello.via == hello.via;
    if (node.hello.instance == hello.instance && !again && node.channel) others.emplace_back(node.channel, node.hello);
  }
  for (const auto& [channel, other] : others) {
    PresenceAsk question;
    question.run = hello.run;
    if (hello.rival_run == other.run) question.rival = hello.rival;
    Welcome out;
    out.here_already = other.run == hello.run;
    out.taken = !out.here_already;
    out.via = other.via;
    bool answers = true;
    try {
      PresenceAsk::Reply reply = co_await channel->request(question, presence_limit);
      out.rival = std::move(reply.rival);
    } catch (const Error& error) {
      answers = error.status() != Status::unreachable;  // one of another version refuses to say
    }
    if (answers && channel->is_open()) co_return out;
  }
  co_return std::nullopt;
}

Welcome Members::enlist(const ChannelPtr& channel, Hello hello) {
  check(channel, hello);
  expire_resting();
  if (auto* known = instance_of(hello.instance); known != nullptr && !known->channel) {
    const bool is_again = known->rests && known->hello.run == hello.run;
    const bool is_visited = known->is_known_of && !channel->remote().is_unspecified();
    if (is_again || is_visited) return take_in(*known, channel, std::move(hello));
  }
  // A node that lost its connection may be back before this side has noticed.
  std::vector<NodeKey> stale;
  for (const auto& [key, node] : nodes_)
    if (node.hello.instance == hello.instance) stale.push_back(key);
  for (const auto key : stale) {
    const auto old = nodes_[key].channel;
    drop(key);
    if (old) old->close();
  }
  claim_name(hello);
  const auto key = next_key_++;
  channel->set_where(hello.node);
  absent_.erase(hello.node);
  silent_.erase(channel.get());
  by_channel_[channel.get()] = key;
  ++names_[hello.node];
  auto& fresh = nodes_[key];
  fresh.key = key;
  fresh.hello = std::move(hello);
  fresh.channel = channel;
  fresh.registered = role_ == Role::keeper;  // nobody tells it an inventory
  fresh.since = Clock::now();
  fresh.seen = channel->remote();
  by_instance_[fresh.hello.instance] = key;
  Welcome out;
  if (const auto name = name_of(nodes_[key]); name != nodes_[key].hello.node) out.known_as = name;
  out.observed = channel->remote().to_string();
  out.key = key;
  if (role_ != Role::tracker) return out;
  std::vector<const Node*> others;
  for (const auto& [other, node] : nodes_)
    if (other != key) others.push_back(&node);
  std::vector<const Node*> some;
  std::ranges::sample(others, std::back_inserter(some), most_members_told, random_);
  for (const auto* node : some)
    out.members.push_back({node->hello.instance, node->hello.node, addresses(*node, channel->remote()),
                           node->hello.peer_port, node->hello.channel_port, 0, Member::keeps_unsaid});
  return out;
}

/// One that was known of, or has rested, says hello.
Welcome Members::take_in(Node& node, const ChannelPtr& channel, Hello hello) {
  channel->set_where(hello.node);
  silent_.erase(channel.get());
  by_channel_[channel.get()] = node.key;
  if (node.is_known_of) {
    // Where it was found stands; what it is called, too, for what is under way by that name.
    hello.node = node.hello.node;
    hello.addresses = node.hello.addresses;
    hello.advertised = true;
    hello.head = hello.head || node.hello.head;
  } else {
    rename(node, hello.node);
  }
  node.hello = std::move(hello);
  node.rests = false;
  node.channel = channel;
  node.seen = channel->remote();
  if (node.arrival) node.arrival->notify();
  Welcome out;
  out.observed = channel->remote().to_string();
  out.key = node.key;
  return out;
}

void Members::claim_name(const Hello& hello) {
  if (owners_.size() >= most_absent && Clock::now() - pruned_ > prune_every) {
    pruned_ = Clock::now();
    std::erase_if(owners_, [&](const auto& pair) { return is_free(pair.second); });
  }
  const auto [at, fresh] = owners_.try_emplace(hello.node);
  auto& owner = at->second;
  // One that is here by this name already has it before any that comes.
  if (!fresh && is_free(owner) && owner.instance != hello.instance)
    for (const auto& [key, node] : nodes_)
      if (node.hello.node == hello.node) {
        owner = {node.hello.instance, std::nullopt};
        break;
      }
  if (fresh || is_free(owner) || owner.instance == hello.instance) owner = {hello.instance, std::nullopt};
}

void Members::drop(NodeKey key) {
  const auto it = nodes_.find(key);
  if (it == nodes_.end()) return;
  if (it->second.channel) by_channel_.erase(it->second.channel.get());
  if (it->second.arrival) it->second.arrival->notify();
  const auto name = it->second.hello.node;
  if (const auto owner = owners_.find(name);
      owner != owners_.end() && owner->second.instance == it->second.hello.instance)
    owner->second.left = Clock::now();
  if (const auto at = by_instance_.find(it->second.hello.instance); at != by_instance_.end() && at->second == key)
    by_instance_.erase(at);
  nodes_.erase(it);
  if (--names_[name] == 0) {
    names_.erase(name);
    absent_[name] = Clock::now();
    if (absent_.size() > most_absent)
      absent_.erase(std::ranges::min_element(absent_, {}, [](const auto& pair) { return pair.second; }));
  }
  on_left(key);
}

const Members::Node* Members::of(const ChannelPtr& channel) const {
  const auto it = by_channel_.find(channel.get());
  return it == by_channel_.end() ? nullptr : &nodes_.at(it->second);
}

const Members::Node* Members::of_instance(const std::string& instance) const {
  const auto it = by_instance_.find(instance);
  return it == by_instance_.end() ? nullptr : &nodes_.at(it->second);
}

const Members::Node* Members::find(NodeKey key) const {
  const auto it = nodes_.find(key);
  return it == nodes_.end() ? nullptr : &it->second;
}

std::optional<NodeKey> Members::named(const std::string& name) const {
  std::optional<NodeKey> out;
  for (const auto& [key, node] : nodes_)
    if (name_of(node) == name || node.hello.instance == name) out = key;
  return out;
}

bool Members::is_head(const Hello& hello) const { return keys_ ? keys_->is_head(hello.instance) : hello.head; }

std::string Members::node_name(NodeKey key) const {
  const auto it = nodes_.find(key);
  return it == nodes_.end() ? "a node that is gone" : name_of(it->second);
}

bool Members::is_free(const Owner& owner) { return owner.left && Clock::now() - *owner.left > name_kept; }

std::string Members::name_of(const Node& node) const {
  const auto& name = node.hello.node;
  const auto it = owners_.find(name);
  bool owns = it == owners_.end() || it->second.instance == node.hello.instance;
  // A name whose node has been gone for a while is the next one's, by the time that they have been here.
  if (!owns && is_free(it->second))
    owns = std::ranges::none_of(
        nodes_, [&](const auto& pair) { return pair.first < node.key && pair.second.hello.node == name; });
  return owns ? name : name + "#" + node.hello.instance.substr(0, 8);
}

std::string Members::no_such_node(const std::string& name) const {
  std::string several;
  for (const auto& [key, node] : nodes_)
    if (node.hello.node == name) several += (several.empty() ? "" : ", ") + name_of(node);
  if (!several.empty()) return "the node of this name is not in the mesh now; others that are called so: " + several;
  return absent_.contains(name) ? "has left the mesh" : "no node of this name is in the mesh";
}

std::vector<std::string> Members::addresses(const Hello& hello, const asio::ip::address& seen,
                                            const asio::ip::address& asker) {
  if (hello.advertised) return hello.addresses;
  // The node that this tracker is within.
  if (seen.is_unspecified()) return asker.is_loopback() ? std::vector{asker.to_string()} : hello.addresses;
  // A node beside the tracker is seen on loopback, which serves only its neighbours there.
  if (seen.is_v6() && hello.v4_only) return hello.addresses;
  if (!seen.is_loopback()) return {seen.to_string()};
  if (asker.is_loopback() || asker.is_unspecified()) return {seen.to_string()};
  return hello.addresses;
}

NodeRef Members::reference(const Node& node, const asio::ip::address& asker) const {
  return {node.key,           name_of(node), addresses(node, asker), node.hello.peer_port, node.hello.channel_port,
          node.hello.instance};
}

Task<void> Members::settle(bool nothing_found) const {
  const auto deadline = Clock::now() + settle_limit;
  const auto settled = [&] {
    const auto now = Clock::now();
    const bool fresh = is_brief() || now - started_ < settle_limit;
    if (now > deadline || (!nothing_found && !fresh)) return true;
    if (nothing_found && !is_brief() && fresh) return false;
    const auto is_new = [&](Clock::time_point since) { return now - since < settle_limit; };
    return std::ranges::none_of(silent_, [&](const auto& pair) { return is_new(pair.second); }) &&
           std::ranges::none_of(nodes_,
                                [&](const auto& pair) { return !pair.second.registered && is_new(pair.second.since); });
  };
  while (!settled()) co_await sleep_for(milliseconds(20));
}

}  // namespace mesh
