#include "mount/pending.h"

#include <cerrno>
#include <vector>

namespace mesh {

PendingPtr PendingRequests::add(fuse_req_t request, Clock::time_point until) {
  auto pending = std::make_shared<Pending>(request, until);
  {
    const std::lock_guard lock(mutex_);
    pending->number_ = ++last_;
    waiting_[pending->number_] = pending;
  }
  fuse_req_interrupt_func(request, &PendingRequests::interrupted, reinterpret_cast<void*>(pending->number_));
  return pending;
}

void PendingRequests::remove(const PendingPtr& pending) {
  const std::lock_guard lock(mutex_);
  waiting_.erase(pending->number_);
}

/// Under the request's own lock (libfuse): it is noted down, and answered by `look`.
void PendingRequests::interrupted(fuse_req_t request, void* number) {
  auto* self = static_cast<PendingRequests*>(fuse_req_userdata(request));
  const std::lock_guard lock(self->mutex_);
  const auto it = self->waiting_.find(reinterpret_cast<std::uintptr_t>(number));
  if (it != self->waiting_.end() && !it->second->interrupted_) it->second->interrupted_ = Clock::now();
}

std::size_t PendingRequests::look(Clock::time_point now, std::chrono::milliseconds grace) {
  std::vector<std::pair<PendingPtr, int>> over;
  std::size_t left = 0;
  {
    const std::lock_guard lock(mutex_);
    for (auto it = waiting_.begin(); it != waiting_.end();) {
      const auto& one = it->second;
      const bool is_interrupted = one->interrupted_ && now - *one->interrupted_ >= grace;
      if (is_interrupted || now >= one->until_) {
        over.emplace_back(one, is_interrupted ? EINTR : EIO);
        it = waiting_.erase(it);
      } else {
        ++it;
      }
    }
    left = waiting_.size();
  }
  for (const auto& [one, error] : over) one->fail(error);
  return left;
}

void PendingRequests::fail_all(int error) {
  std::map<std::uintptr_t, PendingPtr> all;
  {
    const std::lock_guard lock(mutex_);
    all.swap(waiting_);
  }
  for (const auto& [number, one] : all) one->fail(error);
}

}  // namespace mesh
