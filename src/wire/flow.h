// Small pieces of coroutine plumbing that Boost 1.74's Asio lacks. All on one thread: no locks.
#pragma once

#include <utility>  // Boost 1.74's awaitable.hpp needs it and does not include it

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <type_traits>
#include <vector>

namespace mesh {

namespace asio = boost::asio;
template <class T>
using Task = asio::awaitable<T>;

inline Task<void> sleep_for(std::chrono::milliseconds time) {
  asio::steady_timer timer(co_await asio::this_coro::executor, time);
  co_await timer.async_wait(asio::use_awaitable);
}

/// Lets everything else that is due on this thread have its turn.
inline Task<void> give_way() { co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable); }

/// A turn of some milliseconds at a thread that others wait for: long work asks now and then whether it is over, and
/// gives way then. `if (slice.is_over()) co_await slice.next();`
class Slice {
 public:
  [[nodiscard]] bool is_over() const { return std::chrono::steady_clock::now() - begun_ > length; }
  Task<void> next() {
    co_await give_way();
    begun_ = std::chrono::steady_clock::now();
  }

 private:
  static constexpr auto length = std::chrono::milliseconds(3);
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
};

/// Closes a socket once the time is up, unless it is told before that all is well, or is gone. The socket must not move
/// meanwhile.
class Deadline {
 public:
  template <class Socket>
  Deadline(Socket& socket, std::chrono::milliseconds limit)
      : timer_(socket.get_executor(), limit), over_(std::make_shared<bool>(false)) {
    timer_.async_wait([over = over_, &socket](const boost::system::error_code& ec) {
      if (boost::system::error_code ignored; !ec && !std::exchange(*over, true)) socket.close(ignored);
    });
  }
  ~Deadline() { *over_ = true; }
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;
  /// False when the time was up.
  [[nodiscard]] bool met() { return !std::exchange(*over_, true); }

 private:
  asio::steady_timer timer_;
  std::shared_ptr<bool> over_;
};

/// Wakes everyone who waits.
class Event {
 public:
  explicit Event(const asio::any_io_executor& executor) : executor_(executor) {}
  void notify() {
    for (const auto& waiter : std::exchange(waiters_, {})) waiter->cancel();
  }
  /// Returns at the next notify.
  Task<void> wait() { return wait_until(asio::steady_timer::time_point::max()); }
  /// Returns at the next notify, or when the time is up.
  Task<void> wait_for(std::chrono::milliseconds time) {
    return wait_until(asio::steady_timer::clock_type::now() + time);
  }

 private:
  Task<void> wait_until(asio::steady_timer::time_point deadline) {
    const auto waiter = std::make_shared<asio::steady_timer>(executor_, deadline);
    waiters_.push_back(waiter);
    boost::system::error_code ec;
    co_await waiter->async_wait(asio::redirect_error(asio::use_awaitable, ec));
    if (!ec) std::erase(waiters_, waiter);
  }
  asio::any_io_executor executor_;
  std::vector<std::shared_ptr<asio::steady_timer>> waiters_;
};

/// Several tasks at once, and a wait for all of them. What a task throws ends that task alone.
class Together {
 public:
  explicit Together(const asio::any_io_executor& executor) : state_(std::make_shared<State>(executor)) {}
  void add(Task<void> task) {
    ++state_->waiting;
    asio::co_spawn(state_->executor, run(std::move(task), state_), asio::detached);
  }
  [[nodiscard]] std::size_t waiting() const { return state_->waiting; }
  /// Returns when all tasks are over.
  Task<void> all() { return fewer_than(1); }
  /// Returns when fewer than `count` tasks are under way.
  Task<void> fewer_than(std::size_t count) {
    const auto state = state_;
    while (state->waiting >= count) co_await state->over.wait();
  }

 private:
  struct State {
    explicit State(const asio::any_io_executor& e) : executor(e), over(e) {}
    asio::any_io_executor executor;
    Event over;
    std::size_t waiting = 0;
  };
  static Task<void> run(Task<void> task, std::shared_ptr<State> state) {
    try {
      co_await std::move(task);
    } catch (const std::exception&) {
    }
    --state->waiting;
    state->over.notify();
  }
  std::shared_ptr<State> state_;
};

/// Runs a copy of the blocking `work` on a pool and comes back to the caller's own executor with its result or
/// exception. `work` must be a named closure: GCC 12 copies closures that are temporaries of a co_await expression bit
/// by bit.
template <class Work>
Task<std::invoke_result_t<Work>> run_on(asio::thread_pool& pool, Work& work) {
  using Result = std::invoke_result_t<Work>;
  struct Job {
    Job(const Work& given, const asio::any_io_executor& executor) : work(given), landed(executor) {}
    std::remove_const_t<Work> work;
    Event landed;
    bool over = false;
    std::conditional_t<std::is_void_v<Result>, char, std::optional<Result>> result{};
    std::exception_ptr error;
  };
  const asio::any_io_executor home = co_await asio::this_coro::executor;
  const auto job = std::make_shared<Job>(work, home);
  asio::post(pool, [job, home] {
    try {
      if constexpr (std::is_void_v<Result>)
        job->work();
      else
        job->result = job->work();
    } catch (...) {
      job->error = std::current_exception();
    }
    asio::post(home, [job] {
      job->over = true;
      job->landed.notify();
    });
  });
  while (!job->over) co_await job->landed.wait();
  if (job->error) std::rethrow_exception(job->error);
  if constexpr (!std::is_void_v<Result>) co_return std::move(*job->result);
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

}  // namespace mesh
