// Two programs of one identity: a state directory was copied, with a machine or on one, and both are in the mesh. They
// are told apart by their runs, and the later one takes a new identity.
//
// Nobody is believed who says that there is another one, but who has the identity: it signs its own run and that of
// this program, which nobody could know before it began. Pure but for its one question; on the node's loop.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "wire/identity.h"

namespace mesh {

class Rivals {
 public:
  /// `identity`: the node's, as it is now. `yield`: it is to have another one, and is told why.
  Rivals(std::function<IdentityPtr()> identity, std::function<void()> yield);

  /// This program's, hex: the later one of two compares as the larger, as far as their clocks agree.
  [[nodiscard]] const std::string& run() const { return run_; }
  /// For the program of this run: that this one has the identity. Empty for its own.
  [[nodiscard]] std::string proof_for(std::string_view run) const;
  /// Somebody says that the program of this run has `instance`, with its proof. Yields where that is this one's, and
  /// the other was first.
  void hear(std::string_view instance, std::string_view run, std::string_view proof);
  /// The same of one that has proven to have it on a channel of its own.
  void meet(std::string_view instance, std::string_view run);
  /// The run of the last one met that is to yield; empty: none.
  [[nodiscard]] const std::string& later() const { return later_; }

 private:
  std::function<IdentityPtr()> identity_;
  std::function<void()> yield_;
  std::string run_;
  std::string later_;
};

}  // namespace mesh
