// An answer that may take its time, waited for by who may lose interest meanwhile. On the loop.
#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <optional>

#include "core/error.h"
#include "wire/flow.h"

namespace mesh {

/// What `work` returns or throws, which is an Error of whatever kind. `check` is called ten times a second until then,
/// and may throw: `work` goes on by itself then, and nobody hears of it.
template <class T>
Task<T> while_checking(asio::io_context& io, Task<T> work, std::function<void()> check) {
  constexpr auto check_every = std::chrono::milliseconds(100);
  struct Answer {
    explicit Answer(asio::io_context& loop) : here(loop) {}
    std::optional<T> value;
    std::exception_ptr trouble;
    Event here;
  };
  auto wait = [](Task<T> what, std::shared_ptr<Answer> answer) -> Task<void> {
    try {
      answer->value = co_await std::move(what);
    } catch (const Error&) {
      answer->trouble = std::current_exception();
    } catch (const std::exception& error) {
      answer->trouble = std::make_exception_ptr(Error(Status::failed, error.what()));
    }
    answer->here.notify();
  };
  const auto answer = std::make_shared<Answer>(io);
  spawn(io, wait(std::move(work), answer));
  while (!answer->value && !answer->trouble) {
    check();
    co_await answer->here.wait_for(check_every);
  }
  if (answer->trouble) std::rethrow_exception(answer->trouble);
  co_return std::move(*answer->value);
}

}  // namespace mesh
