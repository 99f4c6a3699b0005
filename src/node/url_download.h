// One file that the mesh does not have, from its URL: fetched from the origin, together with whoever else gets it, each
// byte once for the whole mesh (tracker/url_plan.h), and had from each other as a swarm while it arrives.
//
// Its torrent is provisional: nobody knows the pieces yet, so they are checked against SHA-256 merkle roots that the
// fetchers tell by way of the tracker. What comes out is the file with its content id, like any other.
// On the node's loop.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "node/downloads.h"
#include "node/url_fetch.h"

namespace mesh {

class UrlDownload {
 public:
  /// `download`: the limit of what comes from origins.
  UrlDownload(Workers& workers, const NodeOptions& options, Log log, Library& library, Session& session,
              TrackerLinks& links, Room& room, const Pacer& download, Downloads& downloads, FileJobPtr job);
  ~UrlDownload();
  UrlDownload(const UrlDownload&) = delete;
  UrlDownload& operator=(const UrlDownload&) = delete;

  /// Returns when the file is in place; throws Error.
  Task<void> run();

 private:
  using Clock = std::chrono::steady_clock;

  Task<void> get();
  Task<void> take_news();
  [[nodiscard]] OriginReport statement(std::vector<bool>& telling) const;
  Task<void> turn();
  Task<void> obey(OriginAssignment orders);
  Task<void> open(UrlFacts facts);
  Task<void> close(bool keep);
  void give(UrlFetch::Piece piece);
  void count();
  Task<void> finish();
  Task<void> finish_whole(UrlFetch::Whole whole);
  Task<void> say_whole();
  Error changed();
  void check_wanted() const;
  [[nodiscard]] std::int64_t missing() const;

  Workers& workers_;
  const NodeOptions& options_;
  Log log_;
  Library& library_;
  Session& session_;
  TrackerLinks& links_;
  Room& room_;
  Downloads& downloads_;
  FileJobPtr job_;
  ContentId key_;                     ///< of the URL
  std::filesystem::path whole_part_;  ///< where a file goes that needs no swarm
  std::shared_ptr<UrlFetch> fetch_;

  std::int64_t epoch_ = 0;
  int known_ = 0;
  UrlFacts facts_;                        ///< that this node goes by
  UrlFacts heard_;                        ///< that the origin has said and the tracker does not know
  std::optional<Error> unable_;           ///< to fetch from the origin
  std::vector<UrlFetch::Piece> waiting_;  ///< from the origin, until there is a swarm to give them to
  std::vector<bool> told_;                ///< pieces that the tracker knows of

  SwarmTorrentPtr swarm_;
  UrlGate* gate_ = nullptr;  ///< owned by the swarm, while it downloads
  std::shared_ptr<void> claim_;
  Clock::time_point next_turn_{};
  Clock::time_point counted_{};
  Clock::time_point synced_ = Clock::now();
  Clock::time_point progressed_ = Clock::now();
  Clock::time_point heard_tracker_ = Clock::now();
  std::int64_t had_ = -1;
  std::int64_t rated_ = 0;  ///< bytes that were here when the rate was last looked at
  Clock::time_point rated_at_ = Clock::now();
  bool fetching_ = false;
  bool placed_ = false;
};

}  // namespace mesh
