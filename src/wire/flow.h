// Small pieces of coroutine plumbing that Boost 1.74's Asio lacks. All on one thread: no locks.
//
// Asio's own machinery is in flow.cpp alone, so that it is compiled once.
#pragma once

#include <chrono>
#include <concepts>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "wire/task.h"

namespace mesh {

/// No conversions to an executor are looked for, which would take what an io_context is.
template <class T>
concept Executor = std::same_as<T, asio::any_io_executor>;

void spawn_on(const asio::any_io_executor& executor, Task<void> task);
/// Runs a task by itself. What it throws is lost: a task that may fail says so itself.
void spawn(const Executor auto& executor, Task<void> task) { spawn_on(executor, std::move(task)); }
void spawn(asio::io_context& io, Task<void> task);
/// Has `work` done on the loop's thread. Any thread.
void post_to(asio::io_context& io, std::function<void()> work);
/// The same on a thread of the pool; `work` may block, and must not throw.
void post_to(asio::thread_pool& pool, std::function<void()> work);

Task<void> sleep_for(std::chrono::milliseconds time);
/// Lets everything else that is due on this thread have its turn.
Task<void> give_way();

/// A turn of some milliseconds at a thread that others wait for: long work asks now and then whether it is over, and
/// gives way then. `if (slice.is_over()) co_await slice.next();`
class Slice {
 public:
  [[nodiscard]] bool is_over() const { return std::chrono::steady_clock::now() - begun_ > length; }
  Task<void> next();

 private:
  static constexpr auto length = std::chrono::milliseconds(3);
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
};

/// Wakes everyone who waits.
class Event {
 public:
  explicit Event(const Executor auto& executor) : executor_(executor) {}
  explicit Event(asio::io_context& io);
  void notify();
  /// Returns at the next notify.
  Task<void> wait();
  /// Returns at the next notify, or when the time is up.
  Task<void> wait_for(std::chrono::milliseconds time);

 private:
  struct Waiter;
  Task<void> wait_until(std::chrono::steady_clock::time_point deadline);
  asio::any_io_executor executor_;
  std::vector<std::shared_ptr<Waiter>> waiters_;
};

/// Several tasks at once, and a wait for all of them. What a task throws ends that task alone.
class Together {
 public:
  explicit Together(const Executor auto& executor) : state_(std::make_shared<State>(executor)) {}
  explicit Together(asio::io_context& io);
  void add(Task<void> task);
  [[nodiscard]] std::size_t waiting() const { return state_->waiting; }
  /// Returns when all tasks are over.
  Task<void> all();
  /// Returns when fewer than `count` tasks are under way.
  Task<void> fewer_than(std::size_t count);

 private:
  struct State {
    explicit State(const asio::any_io_executor& e) : executor(e), over(e) {}
    asio::any_io_executor executor;
    Event over;
    std::size_t waiting = 0;
  };
  static Task<void> run(Task<void> task, std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

/// Runs the blocking `work` on a pool and comes back to the caller's own executor; throws what it threw.
Task<void> run_on_pool(asio::thread_pool& pool, std::function<void()> work);

/// The same with a copy of `work`, and with its result. `work` must be a named closure: GCC 12 copies closures that are
/// temporaries of a co_await expression bit by bit.
template <class Work>
Task<std::invoke_result_t<Work>> run_on(asio::thread_pool& pool, Work& work) {
  using Result = std::invoke_result_t<Work>;
  if constexpr (std::is_void_v<Result>) {
    std::function<void()> call = work;
    co_await run_on_pool(pool, std::move(call));
  } else {
    struct Job {
      std::remove_const_t<Work> work;
      std::optional<Result> result{};
    };
    const auto job = std::make_shared<Job>(Job{work});
    std::function<void()> call = [job] { job->result = job->work(); };
    co_await run_on_pool(pool, std::move(call));
    co_return std::move(*job->result);
  }
}

/// One piece of work a key at a time: who asks while it runs gets the same result.
template <class Key, class Value>
class SingleFlight {
 public:
  Task<Value> run(Key key, std::function<Task<Value>()> work) {
    if (const auto it = flights_.find(key); it != flights_.end()) {
      const auto flight = it->second;
      while (!flight->over) co_await flight->landed.wait();
      if (flight->error) std::rethrow_exception(flight->error);
      co_return *flight->value;
    }
    const auto flight = std::make_shared<Flight>(co_await asio::this_coro::executor);
    flights_[key] = flight;
    try {
      flight->value = co_await work();
    } catch (...) {
      flight->error = std::current_exception();
    }
    flights_.erase(key);
    flight->over = true;
    flight->landed.notify();
    if (flight->error) std::rethrow_exception(flight->error);
    co_return *flight->value;
  }
  [[nodiscard]] bool is_running(const Key& key) const { return flights_.contains(key); }

 private:
  struct Flight {
    explicit Flight(const asio::any_io_executor& executor) : landed(executor) {}
    Event landed;
    bool over = false;
    std::optional<Value> value;
    std::exception_ptr error;
  };
  std::map<Key, std::shared_ptr<Flight>> flights_;
};

/// Runs `work` to its end on `io` and hands back what it returned or threw; nothing when `io` was stopped before.
/// False, of the untyped one, in that case.
bool run_to_its_end(asio::io_context& io, Task<void> work);
template <class T>
std::optional<T> run_to_end(asio::io_context& io, Task<T> work) {
  std::optional<T> result;
  auto body = [](Task<T> task, std::optional<T>& out) -> Task<void> { out = co_await std::move(task); };
  if (!run_to_its_end(io, body(std::move(work), result))) return std::nullopt;
  return result;
}

}  // namespace mesh
