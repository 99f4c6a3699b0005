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
constexpr std::ptrdiff_t most_visited = 24;  // channels that a view keeps to nodes that it has asked something

}  // namespace

void Members::opened(const ChannelPtr& channel) {
  if (is_brief()) silent_[channel.get()] = Clock::now();
}

void Members::closed(const ChannelPtr& channel) {
  silent_.erase(channel.get());
  const auto it = by_channel_.find(channel.get());
  if (it == by_channel_.end()) return;
  const auto key = it->second;
  // This node's own: the view is over.
  if (is_brief() && nodes_.at(key).seen.is_unspecified()) forget_known_of();
  drop(key);
}

void Members::forget_known_of() {
  std::vector<NodeKey> known_of;
  for (const auto& [key, node] : nodes_)
    if (node.is_known_of) known_of.push_back(key);
  for (const auto key : known_of) {
    const auto channel = nodes_.at(key).channel;
    drop(key);
    if (channel) channel->close();
  }
}

NodeKey Members::know_of(const NodeRef& node, bool head) {
  for (auto& [key, known] : nodes_)
    if (known.hello.instance == node.instance) {
      if (!known.channel) known.hello.addresses = node.addresses;
      return key;
    }
  if (nodes_.size() >= most_known_of) throw Error(Status::failed, "too many nodes are in the mesh");
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
  Node fresh;
  fresh.key = key;
  fresh.hello = std::move(hello);
  fresh.registered = true;
  fresh.since = Clock::now();
  fresh.is_known_of = true;
  nodes_[key] = std::move(fresh);
  return key;
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
    hang_up_some();
    try {
      channel = co_await visit(to);
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
  co_return co_await visits_.run(key, std::move(work));
}

/// Of the nodes that were visited, those that nobody has asked anything for longest.
void Members::hang_up_some() {
  std::vector<Node*> idle;
  std::ptrdiff_t visited = 0;
  for (auto& [key, node] : nodes_) {
    if (!node.is_known_of || !node.channel) continue;
    ++visited;
    if (!node.channel->is_waiting()) idle.push_back(&node);
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
  const auto is_sensible = [](const std::string& text) {
    const auto address = parse_address(text);
    return address && is_of_a_host(*address);
  };
  if (hello.addresses.size() > 32 || hello.former.size() > most_former ||
      !std::ranges::all_of(hello.former, is_instance) || !std::ranges::all_of(hello.addresses, is_sensible))
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
  if (const auto* known = of_instance(hello.instance); known != nullptr && known->is_known_of && !known->channel)
    return take_in(nodes_.at(known->key), channel, std::move(hello));
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
                           node->hello.peer_port, node->hello.channel_port, 0});
  return out;
}

/// One that was known of says hello, as it was visited.
Welcome Members::take_in(Node& node, const ChannelPtr& channel, Hello hello) {
  channel->set_where(hello.node);
  silent_.erase(channel.get());
  by_channel_[channel.get()] = node.key;
  // Where it was found stands; what it is called, too, for what is under way by that name.
  hello.node = node.hello.node;
  hello.addresses = node.hello.addresses;
  hello.advertised = true;
  hello.head = hello.head || node.hello.head;
  node.hello = std::move(hello);
  node.channel = channel;
  node.seen = channel->remote();
  if (node.arrival) node.arrival->notify();
  Welcome out;
  out.observed = channel->remote().to_string();
  out.key = node.key;
  return out;
}

void Members::claim_name(const Hello& hello) {
  if (owners_.size() >= most_absent) std::erase_if(owners_, [&](const auto& pair) { return is_free(pair.second); });
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
  const auto it =
      std::ranges::find_if(nodes_, [&](const auto& pair) { return pair.second.hello.instance == instance; });
  return it == nodes_.end() ? nullptr : &it->second;
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
