// How many connections a port has, of all and of each address. On one loop; what `count` returns may outlive this.
#pragma once

#include <boost/asio/ip/address.hpp>
#include <map>
#include <memory>

#include "wire/access.h"
#include "wire/endpoint.h"

namespace mesh {

class ConnectionCount {
 public:
  explicit ConnectionCount(ConnectionLimits limits) : limits_(limits) {}

  /// Whether one more may come from there. This machine's own are bounded by the sum alone.
  [[nodiscard]] bool admits(const boost::asio::ip::address& remote) const {
    if (state_->all >= limits_.all) return false;
    if (remote.is_loopback()) return true;
    const auto it = state_->of_address.find(counted_as(remote));
    return it == state_->of_address.end() || it->second < limits_.of_one_address;
  }
  /// A connection, for as long as what is returned is held.
  [[nodiscard]] std::shared_ptr<void> count(const boost::asio::ip::address& remote) const {
    const auto address = counted_as(remote);
    ++state_->all;
    ++state_->of_address[address];
    return {nullptr, [state = state_, address](void*) {
              --state->all;
              if (--state->of_address[address] == 0) state->of_address.erase(address);
            }};
  }

 private:
  struct State {
    int all = 0;
    std::map<boost::asio::ip::address, int> of_address;
  };
  ConnectionLimits limits_;
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace mesh
