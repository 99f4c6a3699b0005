// A mount's side of the local socket: asks the node of this machine, and waits for it where it restarts. All of it on
// one loop.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
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
  using Milliseconds = std::chrono::milliseconds;
  /// Connects to the node's local socket, at that path; null where no node runs. Throws Error.
  using Connect = std::function<Task<ChannelPtr>(std::string path)>;
  NodeClient(Connect connect, Log log);
  ~NodeClient();
  NodeClient(const NodeClient&) = delete;
  NodeClient& operator=(const NodeClient&) = delete;

  /// The node's answer, by `until`. It is asked again where it went away, or says that nobody else can be reached at
  /// the moment, each time for `limit` at most. Throws Error: unreachable at that time.
  template <class Request>
  Task<typename Request::Reply> ask(Request question, Clock::time_point until,
                                    Milliseconds limit = Milliseconds::max()) {
    for (auto pause = least_pause;; pause = std::min(pause * 2, most_pause)) {
      const ChannelPtr channel = co_await connected(until);
      std::optional<typename Request::Reply> reply;
      std::optional<Error> trouble;
      try {
        reply = co_await channel->request(question, std::min(left(until), limit));
      } catch (const Error& error) {
        trouble = error;
      }
      if (reply) co_return std::move(*reply);
      if (trouble->status() != Status::unreachable || Clock::now() >= until || is_closed_) throw Error(*trouble);
      co_await sleep_for(std::min(pause, left(until)));
    }
  }
  /// The same of a question that belongs to one connection, such as one that names a handle; once, and nothing where
  /// that connection is lost.
  template <class Request>
  Task<std::optional<typename Request::Reply>> ask_on(Request question, Clock::time_point until,
                                                      std::int64_t connection) {
    std::optional<typename Request::Reply> reply;
    const auto channel = channel_;
    if (connection != connection_ || !channel || !channel->is_open()) co_return reply;
    std::optional<Error> trouble;
    try {
      reply = co_await channel->request(question, left(until));
    } catch (const Error& error) {
      trouble = error;
    }
    if (trouble && channel->is_open()) throw Error(*trouble);
    co_return reply;
  }
  /// A note to the connection of that number, if it is still there.
  template <class Note>
  void note(const Note& note, std::int64_t connection) {
    if (connection == connection_ && channel_ && channel_->is_open()) channel_->note(note);
  }
  /// The number of the connection of now; another one after each loss.
  [[nodiscard]] std::int64_t connection() const { return connection_; }
  [[nodiscard]] bool is_connected(std::int64_t connection) const {
    return connection == connection_ && channel_ && channel_->is_open();
  }
  /// A handle that nobody has, under which a descriptor may come.
  [[nodiscard]] std::int64_t new_handle();
  /// The descriptor that came with it, on this connection. Empty: none did.
  [[nodiscard]] Fd take_descriptor(std::int64_t handle, std::int64_t connection);
  /// It is of use to nobody any more, nor what may come with it.
  void drop(std::int64_t handle);
  /// Nothing more is asked: what waits ends.
  void close();

 private:
  static constexpr Milliseconds least_pause{50};
  static constexpr Milliseconds most_pause{1000};
  [[nodiscard]] static Milliseconds left(Clock::time_point until) {
    return std::max(std::chrono::ceil<Milliseconds>(until - Clock::now()), Milliseconds(1));
  }
  Task<ChannelPtr> connected(Clock::time_point until);
  Task<bool> connect();
  Task<void> connect_both(ChannelPtr& channel, ChannelPtr& descriptors);
  void receive();

  Connect connect_;
  Log log_;
  ChannelPtr channel_;
  ChannelPtr descriptors_;
  std::int64_t last_handle_ = 0;
  std::set<std::int64_t> awaited_;  ///< handles with which a descriptor may come
  std::map<std::int64_t, Fd> arrived_;
  std::int64_t connection_ = 0;
  SingleFlight<int, bool> connecting_;
  std::string trouble_;  ///< as it was said
  bool is_closed_ = false;
};

}  // namespace mesh
