#include "get/get_task.h"

#include <algorithm>
#include <utility>

#include "wire/flow.h"

namespace mesh {
namespace {

constexpr std::chrono::milliseconds tick{100};

}  // namespace

Task<bool> pause(GetTaskPtr task, std::string why, std::chrono::milliseconds time) {
  using Clock = std::chrono::steady_clock;
  task->enter(GetTask::Phase::waiting, std::move(why));
  const auto until = Clock::now() + time;
  while (!task->cancelled && Clock::now() < until) co_await sleep_for(std::min(tick, time));
  task->enter(GetTask::Phase::none);
  co_return !task->cancelled;
}

}  // namespace mesh
