// Who tells whom what many ask for at once: the first few are told by the node itself, each of the others by one that
// came before it, so that a node's uplink carries the same answers a few times and not as often as there are askers.
// Each asker has one to ask, and has itself at most `fanout` that ask it. Pure; any one thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace mesh {

class AskTree {
 public:
  using Time = std::chrono::steady_clock::time_point;
  /// A tree is forgotten when nobody has come to it for so long: those in it have something else to do.
  static constexpr std::chrono::seconds kept{60};
  static constexpr std::size_t most_askers = 1'000;

  explicit AskTree(std::size_t fanout) : fanout_(fanout) {}

  /// Whom `asker` is to ask; nothing: the node itself. The same each time, until that one has `failed`.
  [[nodiscard]] std::optional<std::string> parent_of(const std::string& asker, Time now) {
    if (now - last_ > kept || order_.size() >= most_askers) order_.clear(), places_.clear(), open_ = 0, of_root_ = 0;
    last_ = now;
    if (const auto it = places_.find(asker); it != places_.end()) return it->second.parent;
    std::optional<std::string> parent;
    if (of_root_ < fanout_) {
      ++of_root_;
    } else {
      // The oldest that has room: what is asked for has reached it by now, or soon will.
      while (open_ < order_.size() && places_.at(order_[open_]).children >= fanout_) ++open_;
      if (open_ < order_.size()) {
        parent = order_[open_];
        ++places_.at(*parent).children;
      }
    }
    places_.emplace(asker, Place{parent, 0});
    order_.push_back(asker);
    return parent;
  }

  /// `parent` told `asker`, which was sent to it, nothing: no others are sent there, and this one asks the node itself.
  void failed(const std::string& asker, const std::string& parent) {
    const auto child = places_.find(asker);
    const auto it = places_.find(parent);
    if (child == places_.end() || it == places_.end() || child->second.parent != parent) return;
    child->second.parent.reset();
    it->second.children = fanout_;
  }

 private:
  struct Place {
    std::optional<std::string> parent;
    std::size_t children = 0;
  };
  std::size_t fanout_;
  Time last_{};
  std::map<std::string, Place> places_;
  std::vector<std::string> order_;  ///< as they came
  std::size_t open_ = 0;            ///< of these, the first that may have room
  std::size_t of_root_ = 0;
};

}  // namespace mesh
