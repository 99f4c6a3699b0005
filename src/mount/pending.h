// A request of the kernel's that waits for its answer. Whoever answers first does: the work that it asked for, or the
// clock. Any thread.
#pragma once

#include <fuse_lowlevel.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace mesh {

class Pending {
 public:
  using Clock = std::chrono::steady_clock;
  /// `about`: what it is about, for the log.
  Pending(fuse_req_t request, Clock::time_point until, std::string about)
      : request_(request), until_(until), about_(std::move(about)) {}

  /// True for the one who is to answer; `request` is theirs then.
  [[nodiscard]] bool take() { return state_.exchange(State::answered) != State::answered; }
  [[nodiscard]] bool is_answered() const { return state_ == State::answered; }
  /// What has an effect begins: neither the clock nor an interruption answers from here on, as who heard that nothing
  /// was done could do it again, or something newer. False: it has been answered, and is not to be begun.
  [[nodiscard]] bool hold() {
    auto expected = State::waiting;
    return state_.compare_exchange_strong(expected, State::held);
  }
  [[nodiscard]] fuse_req_t request() const { return request_; }
  [[nodiscard]] Clock::time_point until() const { return until_; }
  [[nodiscard]] const std::string& about() const { return about_; }
  /// It was answered because its time was up.
  [[nodiscard]] bool is_timed_out() const { return timed_out_; }
  void note_timed_out() { timed_out_ = true; }
  void fail(int error) {
    if (take()) fuse_reply_err(request_, error);
  }

 private:
  friend class PendingRequests;
  fuse_req_t request_;
  Clock::time_point until_;
  std::string about_;
  enum class State : std::uint8_t { waiting, held, answered };
  [[nodiscard]] bool take_unless_held() {
    auto expected = State::waiting;
    return state_.compare_exchange_strong(expected, State::answered);
  }
  std::atomic<State> state_ = State::waiting;
  std::atomic<bool> timed_out_ = false;
  std::uintptr_t number_ = 0;
  std::optional<Clock::time_point> interrupted_;  ///< guarded by PendingRequests
};
using PendingPtr = std::shared_ptr<Pending>;

class PendingRequests {
 public:
  using Clock = Pending::Clock;
  /// The session's user data points to this (fuse_session_new).
  [[nodiscard]] PendingPtr add(fuse_req_t request, Clock::time_point until, std::string about);
  /// It was answered, or nobody will.
  void remove(const PendingPtr& pending);
  /// Answers those whose time is up, and those that were interrupted so long ago.
  struct Looked {
    std::size_t left = 0;                ///< wait on
    std::vector<std::string> timed_out;  ///< what these were about
  };
  Looked look(Clock::time_point now, std::chrono::milliseconds grace);
  /// Answers all of them.
  void fail_all(int error);

 private:
  static void interrupted(fuse_req_t request, void* number);
  std::mutex mutex_;
  std::map<std::uintptr_t, PendingPtr> waiting_;
  std::uintptr_t last_ = 0;
};

}  // namespace mesh
