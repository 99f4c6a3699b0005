// Room on the disk that is spoken for: what downloads and spools have yet to write. Who wants to write asks how much of
// what is free is left to it. And which contents somebody is bringing: one at a time does so for each.
//
// On the node's loop.
#pragma once

#include <cstdint>
#include <memory>
#include <set>

#include "core/digest.h"

namespace mesh {

class Room {
 public:
  /// So many bytes will still be written, until this is gone; it may outlive the Room.
  class Reservation {
   public:
    explicit Reservation(const Room& room) : sum_(room.reserved_) {}
    ~Reservation() { set(0); }
    Reservation(const Reservation&) = delete;
    Reservation& operator=(const Reservation&) = delete;
    void set(std::int64_t bytes) {
      *sum_ += bytes - bytes_;
      bytes_ = bytes;
    }
    /// What all others have reserved.
    [[nodiscard]] std::int64_t others() const { return *sum_ - bytes_; }

   private:
    std::shared_ptr<std::int64_t> sum_;
    std::int64_t bytes_ = 0;
  };

  /// Marks `id` as being brought, for as long as what is returned lives.
  [[nodiscard]] std::shared_ptr<void> claim(const ContentId& id) {
    claimed_->insert(id);
    return {nullptr, [claimed = claimed_, id](void*) { claimed->erase(id); }};
  }
  [[nodiscard]] bool is_claimed(const ContentId& id) const { return claimed_->contains(id); }
  [[nodiscard]] const std::set<ContentId>& claimed() const { return *claimed_; }

 private:
  std::shared_ptr<std::int64_t> reserved_ = std::make_shared<std::int64_t>(0);
  std::shared_ptr<std::set<ContentId>> claimed_ = std::make_shared<std::set<ContentId>>();
};

}  // namespace mesh
