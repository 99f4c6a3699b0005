#include "transfer/url_fetch.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <system_error>

#include "core/piece_plan.h"
#include "disk/fd.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::int64_t scanty_bytes = 64 * 1024;
constexpr int most_scanty = 3;
constexpr int most_tries = 5;  // in a row without getting further
constexpr auto first_wait = milliseconds(300);
constexpr std::size_t most_waiting_pieces = 4;
constexpr std::int64_t spare_bytes = std::int64_t{64} << 20;  // left free by a file of unknown size
constexpr std::int64_t look_every_bytes = std::int64_t{16} << 20;

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

Origin::Options with_stop(Origin::Options options, std::function<bool()> stopped) {
  options.stopped = std::move(stopped);
  return options;
}

}  // namespace

Origin::Options origin_options(const UrlSource& source) {
  Origin::Options out;
  out.address = source.url.address;
  out.shown = source.url.shown;
  out.ca = source.ca;
  // Who is asked with this node's credentials is for this node to say.
  if (source.object && source.ordered) out.ca.clear();
  if (out.ca.empty() && source.object) out.ca = source.object->ca();
  out.ordered = source.ordered && !source.url.is_object();  // whose endpoint this node's own configuration names
  out.object = source.object;
  out.local = source.local;
  if (source.timeout > 0) out.timeout_seconds = source.timeout;
  return out;
}

UrlFacts facts_of(const OriginHead& head) {
  UrlFacts out;
  out.size = head.size;
  out.mtime = head.mtime != 0 ? head.mtime : now_ns();
  out.validator = head.validator();
  // Parts of what cannot be told from another version could be parts of several.
  out.ranges = head.code == 206 && !out.validator.empty();
  return out;
}

/// Collects bytes that come in order into pieces.
class UrlFetch::Cutter {
 public:
  Cutter(UrlFetch& fetch, UrlFacts facts, int first)
      : fetch_(fetch), facts_(std::move(facts)), size_(facts_.size), length_(piece_length_for(size_)), piece_(first) {}
  void feed(std::span<const char> bytes) {
    while (!bytes.empty()) {
      const auto whole = static_cast<std::size_t>(std::min(length_, size_ - piece_ * length_));
      if (data_.empty()) data_.reserve(whole);
      const auto part = bytes.first(std::min(bytes.size(), whole - data_.size()));
      data_.insert(data_.end(), part.begin(), part.end());
      bytes = bytes.subspan(part.size());
      if (data_.size() < whole) continue;
      Piece piece;
      piece.facts = facts_;
      piece.index = piece_++;
      piece.root = root_of_piece({data_.data(), data_.size()}, length_, size_ <= length_);
      piece.data = std::exchange(data_, {});
      fetch_.put(std::move(piece));
    }
  }

 private:
  UrlFetch& fetch_;
  UrlFacts facts_;
  std::int64_t size_;
  std::int64_t length_;
  int piece_;
  std::vector<char> data_;
};

UrlFetch::UrlFetch(asio::thread_pool& pool, Origin::Options origin, std::filesystem::path part,
                   std::function<void()> notify, std::function<std::int64_t()> free_bytes)
    : pool_(pool),
      part_(std::move(part)),
      notify_(std::move(notify)),
      free_bytes_(std::move(free_bytes)),
      origin_(with_stop(std::move(origin), [this] { return stop_.load(); })) {}

void UrlFetch::start(std::function<void()> work) {
  running_ = true;
  post_to(pool_, [self = shared_from_this(), work = std::move(work)] {
    try {
      if (!self->stop_) work();
    } catch (const Error& error) {
      const std::lock_guard lock(self->mutex_);
      if (!self->stop_) self->news_.error = error;
    } catch (const std::exception& error) {
      const std::lock_guard lock(self->mutex_);
      self->news_.error = Error(Status::failed, error.what());
    }
    self->running_ = false;
    self->notify_();
  });
}

void UrlFetch::ask_first() {
  start([this] { first(); });
}

void UrlFetch::fetch(const UrlFacts& facts, int begin, int end) {
  start([this, facts, begin, end] { range(facts, begin, end); });
}

UrlFetch::News UrlFetch::take() {
  const std::lock_guard lock(mutex_);
  changed_.notify_all();
  return std::exchange(news_, {});
}

void UrlFetch::stop() {
  stop_ = true;
  const std::lock_guard lock(mutex_);
  changed_.notify_all();
}

void UrlFetch::put(Piece piece) {
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return news_.pieces.size() < most_waiting_pieces || stop_; });
    if (stop_) throw Error(Status::interrupted, "stopped");
    news_.pieces.push_back(std::move(piece));
  }
  notify_();
}

void UrlFetch::tell_facts(const UrlFacts& facts) {
  {
    const std::lock_guard lock(mutex_);
    news_.facts = facts;
  }
  notify_();
}

void UrlFetch::pause(milliseconds time) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, time, [&] { return stop_.load(); });
  if (stop_) throw Error(Status::interrupted, "stopped");
}

/// Until `attempt` says that nothing is left to do, or has failed too often in a row without getting any further.
void UrlFetch::persist(const std::int64_t& furthest, const std::function<bool()>& attempt) {
  auto wait = first_wait;
  for (int tries = 1;; ++tries) {
    const auto before = furthest;
    std::optional<OriginError> trouble;
    try {
      if (attempt()) return;
    } catch (const OriginError& error) {
      trouble = error;
    }
    const bool further = furthest > before;
    if (further) {
      tries = 0;
      wait = first_wait;
    }
    if (!trouble && further) continue;
    if (trouble && (!trouble->is_transient() || tries >= most_tries)) throw OriginError(*trouble);
    if (tries >= most_tries) throw Error(Status::failed, "the origin sends nothing");
    pause(std::max<milliseconds>(wait, seconds(trouble ? trouble->retry_after() : 0)));
    wait *= 2;
  }
}

void UrlFetch::range(const UrlFacts& facts, int begin, int end) {
  const auto length = piece_length_for(facts.size);
  const auto stop_at = std::min(end * length, facts.size);
  auto at = begin * length;
  auto furthest = at;
  std::optional<Cutter> cutter(std::in_place, *this, facts, begin);
  int scanty = 0;  // answers that were far less than what was asked for
  persist(furthest, [&] {
    bool other = false;
    const auto read_whole = [&] {  // by one node then
      auto plain = facts;
      plain.ranges = false;
      tell_facts(plain);
      other = true;
    };
    // Without a validator a second answer may be of another version: then all of it is compared with the first.
    if (!facts.ranges && facts.validator.empty()) {
      at = 0;
      cutter.emplace(*this, facts, 0);
    }
    std::int64_t skip = facts.ranges ? 0 : at;
    const Origin::OnHead on_head = [&](const OriginHead& head) {
      auto now = facts_of(head);
      // Of a part, the whole's size may be left out. And where no validator counts, none does: see tracker/url_plan.h.
      if (head.code == 206 && now.size < 0) now.size = facts.size;
      if (facts.validator.empty()) now.mtime = facts.mtime, now.validator.clear();
      other = now.size != facts.size || now.validator != facts.validator || (facts.ranges && head.code != 206);
      if (other && head.code == 416) throw Error(Status::failed, "the origin's file has become shorter");
      if (other) tell_facts(now);
      return !other;
    };
    const Origin::OnBytes on_bytes = [&](std::span<const char> bytes) {
      received_ += static_cast<std::int64_t>(bytes.size());
      const auto known =
          static_cast<std::size_t>(std::min<std::int64_t>(skip, static_cast<std::int64_t>(bytes.size())));
      skip -= static_cast<std::int64_t>(known);
      bytes = bytes.subspan(known);
      cutter->feed(bytes);
      at += static_cast<std::int64_t>(bytes.size());
      furthest = std::max(furthest, at);
      return true;
    };
    if (!facts.ranges) {
      origin_.read(0, 0, {}, on_head, on_bytes);
      return other || at >= stop_at;
    }
    const auto from = at;
    try {
      origin_.read(at, stop_at, facts.validator, on_head, on_bytes);
      if (at < stop_at && at - from < scanty_bytes && !other && ++scanty >= most_scanty) read_whole();
    } catch (const OriginError& error) {
      if (!error.is_useless_part()) throw;
      read_whole();
    }
    return other || at >= stop_at;
  });
}

void UrlFetch::first() {
  Fd file;
  std::int64_t written = 0;
  const auto write = [&](std::span<const char> bytes) {
    if (written / look_every_bytes != (written + static_cast<std::int64_t>(bytes.size())) / look_every_bytes &&
        free_bytes_() < spare_bytes)
      throw Error(Status::failed, "no room: the disk is nearly full, and the origin does not say how much there is");
    while (!bytes.empty()) {
      const auto n = ::write(file.get(), bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) throw Error(Status::failed, "cannot be written: " + std::generic_category().message(errno));
      written += n;
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
  };
  std::optional<UrlFacts> large;  // it is one that arrives as a swarm
  std::int64_t got = 0;           // of that
  bool again = false;             // a part of it is of no use: ask for all
  std::int64_t furthest = 0;
  persist(furthest, [&] {
    std::optional<OriginHead> answer;
    std::optional<Cutter> cutter;
    const auto make_part = [&] {
      written = 0;
      file = Fd(::open(part_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
      if (!file) throw Error(Status::failed, part_.string() + ": " + std::generic_category().message(errno));
    };
    const Origin::OnHead on_head = [&](const OriginHead& head) {
      answer = head;
      const auto facts = facts_of(head);
      if (head.code == 416) return false;
      again = head.code == 206 && (facts.size < 0 || (!facts.ranges && facts.size > url_first_bytes));
      if (again) return false;
      if (facts.size > url_first_bytes) {
        if (const auto fault = url_facts_fault(facts); !fault.empty())
          throw Error(Status::failed, "the origin says what makes no sense: " + fault);
        large = facts;
        cutter.emplace(*this, facts, 0);
        const std::lock_guard lock(mutex_);
        news_.facts = facts;
      } else {
        make_part();
      }
      return true;
    };
    const Origin::OnBytes on_bytes = [&](std::span<const char> bytes) {
      received_ += static_cast<std::int64_t>(bytes.size());
      if (cutter) {
        cutter->feed(bytes);
        got += static_cast<std::int64_t>(bytes.size());
      } else {
        write(bytes);
        furthest = std::max(furthest, written);
      }
      return true;
    };
    try {
      origin_.read(0, again ? 0 : url_first_bytes, {}, on_head, on_bytes);
    } catch (const OriginError& error) {
      // What is missing is a range like others from here on.
      if (!large && error.is_useless_part() && !again) {
        again = true;
        return false;
      }
      if (!large || !(error.is_transient() || error.is_useless_part())) throw;
    }
    if (large) return true;
    if (!answer || again) return false;
    if (answer->code == 416) {
      if (answer->size > 0) throw Error(Status::failed, "the origin does not say what it has");
      make_part();
    }
    if (answer->code == 206 && written != answer->size) {  // it sends less of a part than it was asked for
      again = true;
      return false;
    }
    if (answer->size >= 0 && written != answer->size && answer->code != 416)
      throw OriginError(Status::failed, "the origin sends less than it has", true);
    const std::lock_guard lock(mutex_);
    news_.whole = Whole{written, answer->mtime != 0 ? answer->mtime : now_ns(), answer->validator()};
    return true;
  });
  if (!large) return;
  const auto length = piece_length_for(large->size);
  const auto done = static_cast<int>(got / length);
  const auto wanted =
      large->ranges ? static_cast<int>((url_first_bytes + length - 1) / length) : piece_count_for(large->size);
  if (got < large->size && done < wanted) range(*large, done, wanted);
}

}  // namespace mesh
