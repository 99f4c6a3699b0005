// Room on the disk that is spoken for: what downloads and spools have yet to write. Who wants to write asks how much of
// what is free is left to it. And which contents somebody is bringing: one at a time does so for each. Who brings one
// for a purpose that can wait lets go of it when somebody else wants to.
//
// On the node's loop, but for `free_bytes`.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <stdexcept>
#include <utility>

#include "core/digest.h"

namespace mesh {

class Room {
  using Claims = std::map<ContentId, std::function<void()>>;

 public:
  /// `free_bytes`: what the disk has left, said on any thread.
  explicit Room(std::function<std::int64_t()> free_bytes) : free_bytes_(std::move(free_bytes)) {}

  [[nodiscard]] std::int64_t free_bytes() const { return free_bytes_(); }

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

  /// Says that a content is being brought, until this is gone or released; it may outlive the Room.
  class Claim {
   public:
    Claim() = default;
    Claim(Room& room, const ContentId& id, std::function<void()> let_go) : claimed_(room.claimed_), id_(id) {
      if (!claimed_->emplace(id, std::move(let_go)).second) throw std::logic_error(id.hex() + ": is claimed already");
    }
    ~Claim() { release(); }
    Claim(const Claim&) = delete;
    Claim& operator=(const Claim&) = delete;
    Claim(Claim&& other) noexcept : claimed_(std::exchange(other.claimed_, nullptr)), id_(other.id_) {}
    Claim& operator=(Claim&& other) noexcept {
      if (this == &other) return *this;
      release();
      claimed_ = std::exchange(other.claimed_, nullptr);
      id_ = other.id_;
      return *this;
    }
    [[nodiscard]] bool is_of(const ContentId& id) const { return claimed_ != nullptr && id_ == id; }
    void release() {
      if (claimed_) claimed_->erase(id_);
      claimed_ = nullptr;
    }

   private:
    std::shared_ptr<Claims> claimed_;
    ContentId id_{};
  };
  /// Nobody else may have claimed it. `let_go`: called when somebody else wants to; then the claim is to be released
  /// soon. Unset: it is not.
  [[nodiscard]] Claim claim(const ContentId& id, std::function<void()> let_go = {}) {
    return {*this, id, std::move(let_go)};
  }
  [[nodiscard]] bool is_claimed(const ContentId& id) const { return claimed_->contains(id); }
  /// Whether it is claimed; who has it, and can wait, is told that somebody wants it.
  [[nodiscard]] bool is_claimed_still(const ContentId& id) const {
    const auto it = claimed_->find(id);
    if (it == claimed_->end()) return false;
    if (const auto let_go = it->second) let_go();
    return claimed_->contains(id);
  }
  [[nodiscard]] std::set<ContentId> claimed() const {
    std::set<ContentId> out;
    for (const auto& [id, let_go] : *claimed_) out.insert(id);
    return out;
  }

 private:
  std::function<std::int64_t()> free_bytes_;
  std::shared_ptr<std::int64_t> reserved_ = std::make_shared<std::int64_t>(0);
  std::shared_ptr<Claims> claimed_ = std::make_shared<Claims>();
};

}  // namespace mesh
