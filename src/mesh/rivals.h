// Two programs of one identity: a state directory was copied, with a machine or on one, and both are in the mesh. They
// are told apart by their runs, and the one that has run for less time takes a new identity.
//
// Nobody is believed who says that there is another one, but who has the identity: it signs its own run, that of the
// program that it speaks to, which nobody could know before that began, and how long it has been running. Pure but for
// its two questions; on the node's loop.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>

#include "wire/identity.h"
#include "wire/messages/registration.h"

namespace mesh {

/// Whether it is one that a program may have drawn.
[[nodiscard]] bool is_run(std::string_view text);

class Rivals {
 public:
  using Clock = std::chrono::steady_clock;
  /// `identity`: the node's, as it is now. `yield`: it is to have another one.
  Rivals(std::function<IdentityPtr()> identity, std::function<void()> yield, Clock::time_point now = Clock::now());

  /// This program's: 64 hex digits, drawn at its start.
  [[nodiscard]] const std::string& run() const { return run_; }
  /// To the program of this run: that this one has the identity. Without a proof where that is itself, or no run.
  [[nodiscard]] RivalClaim claim_to(std::string_view run, Clock::time_point now = Clock::now()) const;
  /// Somebody says that another program has `instance`, and hands on what that claims. Yields where it is this one's
  /// identity, and the other has had it for longer.
  void hear(std::string_view instance, const RivalClaim& claim, Clock::time_point now = Clock::now());
  /// The run of the last one heard of that is to yield; empty: none.
  [[nodiscard]] const std::string& later() const { return later_; }

 private:
  std::function<IdentityPtr()> identity_;
  std::function<void()> yield_;
  Clock::time_point begun_;
  std::string run_;
  std::string later_;
  int heard_ = 0;  ///< how often of that
};

}  // namespace mesh
