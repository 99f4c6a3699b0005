#include "wire/flow.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace mesh {

void spawn_on(const asio::any_io_executor& executor, Task<void> task) {
  asio::co_spawn(executor, std::move(task), asio::detached);
}
void spawn(asio::io_context& io, Task<void> task) { spawn_on(io.get_executor(), std::move(task)); }
void post_to(asio::io_context& io, std::function<void()> work) { asio::post(io, std::move(work)); }
void post_to(asio::thread_pool& pool, std::function<void()> work) { asio::post(pool, std::move(work)); }

Task<void> sleep_for(std::chrono::milliseconds time) {
  asio::steady_timer timer(co_await asio::this_coro::executor, time);
  co_await timer.async_wait(asio::use_awaitable);
}

Task<void> give_way() { co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable); }

Task<void> Slice::next() {
  co_await give_way();
  begun_ = std::chrono::steady_clock::now();
}

struct Event::Waiter {
  Waiter(const asio::any_io_executor& executor, asio::steady_timer::time_point deadline) : timer(executor, deadline) {}
  asio::steady_timer timer;
};

Event::Event(asio::io_context& io) : Event(asio::any_io_executor(io.get_executor())) {}
void Event::notify() {
  for (const auto& waiter : std::exchange(waiters_, {})) waiter->timer.cancel();
}
Task<void> Event::wait() { return wait_until(asio::steady_timer::time_point::max()); }
Task<void> Event::wait_for(std::chrono::milliseconds time) {
  return wait_until(asio::steady_timer::clock_type::now() + time);
}
Task<void> Event::wait_until(std::chrono::steady_clock::time_point deadline) {
  const auto waiter = std::make_shared<Waiter>(executor_, deadline);
  waiters_.push_back(waiter);
  boost::system::error_code ec;
  co_await waiter->timer.async_wait(asio::redirect_error(asio::use_awaitable, ec));
  if (!ec) std::erase(waiters_, waiter);
}

Together::Together(asio::io_context& io) : Together(asio::any_io_executor(io.get_executor())) {}
void Together::add(Task<void> task) {
  ++state_->waiting;
  spawn(state_->executor, run(std::move(task), state_));
}
Task<void> Together::all() { return fewer_than(1); }
Task<void> Together::fewer_than(std::size_t count) {
  const auto state = state_;
  while (state->waiting >= count) co_await state->over.wait();
}
Task<void> Together::run(Task<void> task, std::shared_ptr<State> state) {
  try {
    co_await std::move(task);
  } catch (const std::exception&) {
  }
  --state->waiting;
  state->over.notify();
}

Task<void> run_on_pool(asio::thread_pool& pool, std::function<void()> work) {
  struct Job {
    Job(std::function<void()> given, const asio::any_io_executor& executor)
        : work(std::move(given)), landed(executor) {}
    std::function<void()> work;
    Event landed;
    bool over = false;
    std::exception_ptr error;
  };
  const asio::any_io_executor home = co_await asio::this_coro::executor;
  const auto job = std::make_shared<Job>(std::move(work), home);
  asio::post(pool, [job, home] {
    try {
      job->work();
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
}

bool run_to_its_end(asio::io_context& io, Task<void> work) {
  bool over = false;
  std::exception_ptr error;
  auto body = [](Task<void> task, bool& done, std::exception_ptr& failed, asio::io_context& context) -> Task<void> {
    try {
      co_await std::move(task);
    } catch (...) {
      failed = std::current_exception();
    }
    done = true;
    context.stop();
  };
  spawn(io, body(std::move(work), over, error, io));
  io.run();
  if (error) std::rethrow_exception(error);
  return over;
}

}  // namespace mesh
