// One question to many nodes, and their answers in one: orders, and how each is.
//
// All on the tracker's loop.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "members.h"
#include "wire/beyond.h"
#include "wire/flow.h"

namespace mesh {

class FanOut {
 public:
  /// `beyond`: of a view, which knows everybody; may be null.
  FanOut(asio::io_context& io, Members& members, const Beyond* beyond)
      : io_(io), members_(members), beyond_(beyond), looked_(io) {}
  /// An order for some nodes, or for all; who asks is this tracker's word, not the asker's.
  Task<Relayed> relay(ChannelPtr channel, Relay asked);
  Task<StatusReply> status();
  /// Whoever asks while others do, or soon after them, is told what those are.
  Task<Glances> glance(GlanceAsk asked);

 private:
  using Clock = std::chrono::steady_clock;
  /// The answers of all nodes, by name; of one that does not answer, what `failed` makes of that.
  template <class Answer, class Question, class Taken, class Failed>
  Task<std::vector<Answer>> ask_all(Question question, Taken taken, Failed failed);
  Task<void> look(bool hour);
  void know_everybody();

  asio::io_context& io_;
  Members& members_;
  const Beyond* beyond_;
  std::shared_ptr<const Glances> last_;
  Clock::time_point looked_at_{};
  std::optional<Clock::time_point> hour_asked_at_;
  bool is_looking_ = false;
  Event looked_;
};

}  // namespace mesh
