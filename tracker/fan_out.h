// One question to many nodes, and their answers in one: orders, and how each is.
//
// All on the tracker's loop.
#pragma once

#include "members.h"
#include "wire/beyond.h"
#include "wire/flow.h"

namespace mesh {

class FanOut {
 public:
  /// `beyond`: of a view, which knows everybody; may be null.
  FanOut(asio::io_context& io, Members& members, const Beyond* beyond) : io_(io), members_(members), beyond_(beyond) {}
  /// An order for some nodes, or for all; who asks is this tracker's word, not the asker's.
  Task<Relayed> relay(ChannelPtr channel, Relay asked);
  Task<StatusReply> status();

 private:
  asio::io_context& io_;
  void know_everybody();
  Members& members_;
  const Beyond* beyond_;
};

}  // namespace mesh
