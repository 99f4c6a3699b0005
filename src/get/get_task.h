// One get under way, as the parts of the getter share it. On the node's loop.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/glob.h"
#include "core/mesh_path.h"
#include "transfer/order.h"
#include "wire/messages.h"
#include "wire/pacer.h"
#include "wire/task.h"

namespace mesh {

/// A pack that is on its way for a get.
struct PackProgress {
  ContentId id;
  std::int64_t placed = 0;  ///< bytes of its files that are in place
};

/// One file of a get: what the tracker chose, and what is here.
struct Planned {
  ResolvedFile file;
  int what = 0;        ///< which of the request's WHATs
  bool print = false;  ///< its path is to be printed
  ContentId by_id{};   ///< it was asked for by this, and no other version will do
  LocalState before;
  std::shared_ptr<PackProgress> pack{};  ///< by which it came
  bool from_getter = false;              ///< of that: its bytes came from another getter
  bool no_image = false;                 ///< its bytes were seen, and are no disk image
  std::optional<UrlSource> origin;       ///< where it may be had if the mesh loses it
  std::optional<UrlSource> url;          ///< to be had from there; then `file` names no more than the path
  std::string sha256;                    ///< that the file must have, in hex; empty: none was asked for
};

/// What names the file once more, when it is to be looked for anew.
[[nodiscard]] What what_names(const Planned& planned);

struct GetTask : Asker {
  /// Why nothing moves.
  enum class Phase { none, asking, comparing, waiting, paused };

  Get request;
  std::vector<What> wanted;             ///< the request's WHATs, read
  std::vector<std::string> seeds;       ///< and its seeds (get/seeds.h)
  std::int64_t number = 0;              ///< in the state database
  std::atomic<bool> cancelled = false;  ///< all of it
  bool absorbed = false;                ///< and it goes on under another number
  std::vector<What> except;             ///< what was cancelled of it
  Pacer pacer;                          ///< of what comes neither from a swarm nor by one
  std::int64_t settled_bytes = 0;       ///< of files that are done
  std::int64_t total_bytes = 0;
  /// Of a get of the node's own: bytes that may come yet for all of its kind; null: no bound.
  std::shared_ptr<std::int64_t> budget;
  std::int64_t spent = 0;  ///< of that
  bool is_kept = false;    ///< the node's own (--keep): nobody waits for it, and it is not written down
  int files_done = 0;
  int files_total = 0;
  Phase phase = Phase::none;
  std::string phase_text;                ///< the same for people; empty where something moves
  std::vector<GetOutcome> unresolved{};  ///< what its first questions found out that cannot be had
  bool running = false;                  ///< past its first question to the tracker
  std::vector<std::shared_ptr<PackProgress>> packs{};
  std::size_t unplaced = 0;  ///< small files that have arrived and have no name yet

  void enter(Phase now, std::string text = {}) {
    phase = now;
    phase_text = std::move(text);
  }
  /// So much more is to come; false where that is more than may.
  [[nodiscard]] bool spend(std::int64_t bytes) {
    if (budget && bytes > *budget) return false;
    if (budget) *budget -= bytes;
    spent += bytes;
    return true;
  }
  /// Whether this path of it was cancelled.
  [[nodiscard]] bool excludes(std::string_view path) const {
    if (cancelled) return true;
    for (const auto& what : except)
      if (names(what, path)) return true;
    return false;
  }

  [[nodiscard]] bool wants(std::string_view path) const override { return !excludes(path); }
  [[nodiscard]] bool is_patient() const override { return request.wait; }
  /// A get that nobody waits for does not fail for want of room: it pauses.
  [[nodiscard]] bool waits_for_room() const override { return request.wait || request.detach; }
  [[nodiscard]] bool reads_along() const override { return request.pipe; }
  [[nodiscard]] std::int64_t max_down() const override { return request.max_down; }
  [[nodiscard]] std::int64_t max_up() const override { return request.max_up; }
};
using GetTaskPtr = std::shared_ptr<GetTask>;

/// Waits, and says why meanwhile; false when the get was cancelled.
Task<bool> pause(GetTaskPtr task, std::string why, std::chrono::milliseconds time);

}  // namespace mesh
