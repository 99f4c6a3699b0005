#include "mount/pending.h"

#include <cerrno>

namespace mesh {

PendingPtr PendingRequests::add(fuse_req_t request, Clock::time_point until, std::string about) {
  auto pending = std::make_shared<Pending>(request, until, std::move(about));
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

PendingRequests::Looked PendingRequests::look(Clock::time_point now, std::chrono::milliseconds grace) {
  std::vector<std::pair<PendingPtr, int>> over;
  Looked out;
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
    out.left = waiting_.size();
  }
  for (const auto& [one, error] : over) {
    if (!one->take_unless_held()) continue;
    if (error == EIO) one->note_timed_out();
    fuse_reply_err(one->request(), error);
    if (error == EIO) out.timed_out.push_back(one->about());
  }
  return out;
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
