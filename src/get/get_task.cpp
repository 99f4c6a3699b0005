#include "get/get_task.h"

#include <algorithm>
#include <utility>

#include "wire/flow.h"

namespace mesh {
namespace {

constexpr std::chrono::milliseconds tick{100};

}  // namespace

What what_names(const Planned& planned) {
  const auto& path = planned.file.entry.path;
  if (!planned.by_id.is_set()) return What{path, path, false};
  const auto text = "id:" + planned.by_id.hex();
  What out{text, text, false};
  out.id = planned.by_id;
  return out;
}

Task<bool> pause(GetTaskPtr task, std::string why, std::chrono::milliseconds time) {
  using Clock = std::chrono::steady_clock;
  task->enter(GetTask::Phase::waiting, std::move(why));
  const auto until = Clock::now() + time;
  while (!task->cancelled && Clock::now() < until) co_await sleep_for(std::min(tick, time));
  task->enter(GetTask::Phase::none);
  co_return !task->cancelled;
}

}  // namespace mesh
