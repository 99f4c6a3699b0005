// A mount's side of the local socket: asks the node of this machine, and waits for it where it restarts. All of it on
// one loop.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "core/error.h"
#include "core/log.h"
#include "disk/fd.h"
#include "wire/channel.h"
#include "wire/flow.h"

namespace mesh {

class NodeClient {
 public:
  using Clock = std::chrono::steady_clock;
  /// Connects to the node's local socket, at that path; null where no node runs. Throws Error.
  using Connect = std::function<Task<ChannelPtr>(std::string path)>;
  NodeClient(asio::io_context& io, Connect connect, Log log);
  ~NodeClient();
  NodeClient(const NodeClient&) = delete;
  NodeClient& operator=(const NodeClient&) = delete;

  /// The node's answer, by `until`. It is asked again where it went away, or says that nobody else can be reached at
  /// the moment. Throws Error: unreachable at that time. `on`: the number of the connection that the question belongs
  /// to, such as a handle's: Lost where that is over.
  struct Lost {};
  template <class Request>
  Task<typename Request::Reply> ask(Request question, Clock::time_point until, std::int64_t on = 0) {
    const auto alive = alive_;
    for (auto pause = least_pause;; pause = std::min(pause * 2, most_pause)) {
      const ChannelPtr channel = co_await connected(until);
      if (on != 0 && on != connection_) throw Lost{};
      std::optional<typename Request::Reply> reply;
      std::optional<Error> trouble;
      try {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
        reply = co_await channel->request(question, std::max(left, std::chrono::milliseconds(1)));
      } catch (const Error& error) {
        trouble = error;
      }
      if (!*alive) throw Error(Status::interrupted, "unmounted");
      if (reply) co_return std::move(*reply);
      if (trouble->status() != Status::unreachable || Clock::now() >= until) throw Error(*trouble);
      co_await sleep_for(std::min(pause, std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now())));
      if (!*alive) throw Error(Status::interrupted, "unmounted");
    }
  }
  /// A note to the connection of that number, if it is still there.
  template <class Note>
  void note(const Note& note, std::int64_t on) {
    if (on == connection_ && channel_ && channel_->is_open()) channel_->note(note);
  }
  /// The number of the connection of now; another one after each loss.
  [[nodiscard]] std::int64_t connection() const { return connection_; }
  /// One that was sent under this number on this connection. Empty: it was not.
  [[nodiscard]] Fd take_descriptor(std::int64_t number, std::int64_t on);
  /// Nothing more is asked: what waits ends.
  void close();

 private:
  static constexpr std::chrono::milliseconds least_pause{50};
  static constexpr std::chrono::milliseconds most_pause{1000};
  Task<ChannelPtr> connected(Clock::time_point until);
  Task<bool> connect();

  asio::io_context& io_;
  Connect connect_;
  Log log_;
  ChannelPtr channel_;
  ChannelPtr descriptors_;
  std::map<std::int64_t, Fd> arrived_;
  std::int64_t connection_ = 0;
  SingleFlight<int, bool> connecting_;
  std::string trouble_;  ///< as it was said
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace mesh
