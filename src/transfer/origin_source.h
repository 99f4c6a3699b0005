// One file that the mesh does not have, from its URL: fetched from the origin, together with whoever else gets it, each
// byte once for the whole mesh (tracker/url_plan.h), and had from each other as a swarm while it arrives.
//
// Its torrent is provisional: nobody knows the pieces yet, so they are checked against SHA-256 merkle roots that the
// fetchers tell by way of the tracker. What comes out is the file with its content id, like any other.
// On the node's loop.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "transfer/download.h"
#include "transfer/source.h"
#include "transfer/url_fetch.h"
#include "wire/pacer.h"

namespace mesh {

class OriginSource final : public Source {
 public:
  /// `from_origins`: the limit of what comes from origins.
  OriginSource(Workers& workers, TrackerLinks& links, Room& room, Parts& parts, MeshKeysPtr keys, Log log,
               const Pacer& from_origins, DownloadPtr download);
  ~OriginSource() override;

  Task<bool> tend() override;
  [[nodiscard]] std::chrono::milliseconds tick() const override { return std::chrono::milliseconds(50); }
  void forgive() override { progressed_ = rated_at_ = Clock::now(); }
  /// All pieces are here: puts the file in place, and tells the tracker. Throws Error.
  Task<void> finish();
  /// Nothing is fetched any more when it returns.
  Task<void> stop();
  /// Tells the tracker that this node gives up.
  Task<void> leave();

 private:
  using Clock = std::chrono::steady_clock;

  Task<void> take_news();
  [[nodiscard]] OriginReport statement(std::vector<bool>& telling) const;
  Task<void> take_turn();
  Task<void> follow(OriginAssignment assignment);
  Task<void> go_alone();
  void ask_first();
  Task<void> open(UrlFacts facts);
  Task<void> offer_whole();
  void add_piece(UrlFetch::Piece piece);
  void set_known(const std::vector<UrlPiece>& pieces);
  void watch_progress();
  Task<void> place_whole(UrlFetch::Whole whole);
  Task<void> place(ContentId id, std::filesystem::path part, std::string validator);
  Error changed();

  Workers& workers_;
  TrackerLinks& links_;
  Room& room_;
  Parts& parts_;
  MeshKeysPtr keys_;
  Log log_;
  DownloadPtr download_;
  ContentId key_;                     ///< of the URL
  std::filesystem::path whole_part_;  ///< where a file goes that needs no swarm
  std::shared_ptr<UrlFetch> fetch_;

  std::int64_t epoch_ = 0;  ///< of the tracker's last assignment
  /// Since when no tracker has answered; this node goes on without the others after a while.
  std::optional<std::chrono::steady_clock::time_point> no_tracker_since_;
  bool alone_ = false;
  std::vector<UrlFacts> earlier_{};       ///< that it has said, while alone
  int changes_ = 0;                       ///< of what the origin says, while alone
  int known_ = 0;                         ///< the tracker's news up to here are known
  UrlFacts facts_;                        ///< that this node goes by
  UrlFacts heard_;                        ///< that the origin has said and the tracker does not know
  std::optional<Error> unable_;           ///< to fetch from the origin
  std::vector<UrlFetch::Piece> waiting_;  ///< from the origin, until there is a swarm to give them to
  std::vector<bool> told_;                ///< pieces that the tracker knows of
  SwarmTorrentPtr torrent_;               ///< while this node is in its swarm

  Clock::time_point next_turn_{};
  Clock::time_point progressed_ = Clock::now();
  std::int64_t had_ = -1;   ///< bytes that had come when progress was last looked at
  std::int64_t rated_ = 0;  ///< bytes that were here when the rate was last looked at
  Clock::time_point rated_at_ = Clock::now();
  bool fetching_ = false;  ///< the origin was asked for something, and whether all of it has come is not known yet
  bool placed_ = false;
};

}  // namespace mesh
