// One question to many nodes, and their answers in one: orders, and how each is.
//
// All on the tracker's loop.
#pragma once

#include "members.h"
#include "wire/flow.h"

namespace mesh {

class FanOut {
 public:
  FanOut(asio::io_context& io, const Members& members) : io_(io), members_(members) {}
  /// An order for some nodes, or for all; who asks is this tracker's word, not the asker's.
  Task<Relayed> relay(ChannelPtr channel, Relay asked);
  Task<StatusReply> status();

 private:
  asio::io_context& io_;
  const Members& members_;
};

}  // namespace mesh
