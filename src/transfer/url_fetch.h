// The part of a get of a URL that talks to the origin: one question after the other on a thread of a pool, retried with
// growing waits, cut into pieces. What it finds is taken from it on the node's loop.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "core/merkle.h"
#include "transfer/order.h"
#include "transfer/origin.h"
#include "wire/flow.h"
#include "wire/messages.h"

namespace mesh {

class UrlFetch : public std::enable_shared_from_this<UrlFetch> {
 public:
  struct Piece {
    UrlFacts facts{};  ///< that it was fetched by: it belongs to no other version
    int index = 0;
    std::vector<char> data;
    Sha256 root;
  };
  /// A file that came whole with the first answer, or whose size the origin does not say: it lies in `part`.
  struct Whole {
    std::int64_t size = 0;
    std::int64_t mtime = 0;
    std::string validator;
  };
  struct News {
    std::optional<UrlFacts> facts;  ///< as the origin says now
    std::vector<Piece> pieces;
    std::optional<Whole> whole;
    std::optional<Error> error;  ///< it cannot go on, for good
  };

  /// `notify` is called on any thread when there is news. `part` is where a whole file goes; `free_bytes` says what
  /// room there is, on any thread.
  UrlFetch(asio::thread_pool& pool, Origin::Options origin, std::filesystem::path part, std::function<void()> notify,
           std::function<std::int64_t()> free_bytes);

  /// Nothing is being asked.
  [[nodiscard]] bool is_idle() const { return !running_; }
  /// Asks what the origin has. To be called when idle, as the next.
  void ask_first();
  /// Fetches pieces [begin, end).
  void fetch(const UrlFacts& facts, int begin, int end);
  [[nodiscard]] News take();
  /// Bytes that the origin has sent.
  [[nodiscard]] std::int64_t received() const { return received_; }
  /// Ends soon; what was not taken is lost.
  void stop();

 private:
  class Cutter;
  void start(std::function<void()> work);
  void first();
  void range(const UrlFacts& facts, int begin, int end);
  void persist(const std::int64_t& furthest, const std::function<bool()>& attempt);
  void put(Piece piece);
  void tell_facts(const UrlFacts& facts);
  void pause(std::chrono::milliseconds time);

  asio::thread_pool& pool_;
  std::filesystem::path part_;
  std::function<void()> notify_;
  std::function<std::int64_t()> free_bytes_;
  std::atomic<bool> running_ = false;
  std::atomic<bool> stop_ = false;
  std::atomic<std::int64_t> received_ = 0;
  Origin origin_;
  mutable std::mutex mutex_;  ///< guards what follows
  std::condition_variable changed_;
  News news_;
};

/// How to ask the origin of a URL.
[[nodiscard]] Origin::Options origin_options(const UrlSource& source);

/// Facts of an answer with all of the file (200) or a part of it (206).
[[nodiscard]] UrlFacts facts_of(const OriginHead& head);

}  // namespace mesh
