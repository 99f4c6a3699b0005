// One at a time: who has had his turn may leave something for the next one to find. On one loop.
#pragma once

#include <memory>

#include "wire/flow.h"

namespace mesh {

class Turn {
 public:
  explicit Turn(asio::io_context& io) : state_(std::make_shared<State>(io)) {}

  /// Waits until nobody has it. It is over when what is returned is gone, which may outlive this.
  Task<std::shared_ptr<void>> take() { return take(state_); }

 private:
  struct State {
    explicit State(asio::io_context& io) : over(io) {}
    bool is_taken = false;
    Event over;
  };
  static Task<std::shared_ptr<void>> take(std::shared_ptr<State> state) {
    while (state->is_taken) co_await state->over.wait();
    state->is_taken = true;
    std::shared_ptr<void> out(nullptr, [state](void*) {
      state->is_taken = false;
      state->over.notify();
    });
    co_return out;
  }
  std::shared_ptr<State> state_;
};

}  // namespace mesh
