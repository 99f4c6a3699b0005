// A transfer's bytes from its swarm: has a holder prepare it, and asks the tracker again when nothing has come for a
// while. Downloads and streams share it. On the node's loop.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "core/error.h"
#include "mesh/tracker_links.h"
#include "transfer/source.h"
#include "transfer/stall_policy.h"
#include "transfer/transfer.h"

namespace mesh {

/// Has a holder of a file prepare its swarm, which may take as long as it takes to hash the file. `check` is called
/// while it waits, and may throw. Throws Error: failed where no holder can give this version any more.
Task<Torrent> prepare_swarm(Workers& workers, TrackerLinks& links, FileEntry wanted, std::vector<std::uint32_t> holders,
                            std::function<void()> check);
/// What a tracker handed on of the torrent of `wanted`. Throws Error where it is not sound.
[[nodiscard]] VerifiedTorrent verified(const Torrent& told, const FileEntry& wanted, const MeshKeysPtr& keys);

class SwarmSource final : public Source {
 public:
  SwarmSource(TrackerLinks& links, const StallTimes& times, Transfer& transfer)
      : links_(links), transfer_(transfer), stall_(times, StallPolicy::Clock::now()) {}

  Task<bool> tend() override;
  void forgive() override { stall_.forgive(StallPolicy::Clock::now()); }
  /// After an error: the version is not to be had any more, another may be.
  [[nodiscard]] bool version_is_gone() const { return version_gone_; }

 private:
  [[nodiscard]] Error hopeless(StallPolicy::Verdict verdict, const std::optional<Error>& why) const;

  TrackerLinks& links_;
  Transfer& transfer_;
  StallPolicy stall_;
  bool version_gone_ = false;
};

}  // namespace mesh
