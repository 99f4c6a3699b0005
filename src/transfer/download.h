// A large file on its way into the files directory: shared by the gets that want it, limited as they ask, kept as a
// partial while it is not whole, and put in place when it is. On the node's loop.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "transfer/order.h"
#include "transfer/parts.h"
#include "transfer/transfer.h"

namespace mesh {

class Download : public Transfer {
 public:
  enum class End {
    under_way,
    placed,        ///< it is in place
    kept,          ///< what was here already is it
    look_again,    ///< another download to its path has ended: what is here now is for the asker to see
    in_the_way,    ///< a file that was made or changed here is, and is kept
    version_gone,  ///< this version is not to be had any more; another may be
    failed,
    interrupted,  ///< nobody wanted it any more
  };
  /// How it went.
  struct Outcome {
    End end = End::under_way;
    Status status = Status::ok;
    std::string error;
  };

  Download(Workers& workers, Session& session, TrackerLinks& links, Room& room, Parts& parts, FileOrder order)
      : Transfer(workers, session, links, room, order.wanted), parts_(parts), order_(std::move(order)) {}

  /// What is known of the file by now is in `wanted`.
  [[nodiscard]] const FileOrder& order() const { return order_; }
  [[nodiscard]] const Outcome& outcome() const { return outcome_; }
  [[nodiscard]] bool is_over() const { return outcome_.end != End::under_way; }
  void end(Outcome outcome);

  void add(AskerPtr asker);
  /// Without askers it is stopped.
  void remove(const AskerPtr& asker);
  [[nodiscard]] bool has_askers() const { return !askers_.empty(); }
  [[nodiscard]] bool is_patient() const override;
  /// For work on a pool: nobody wants it any more.
  [[nodiscard]] const std::atomic<bool>& stop() const { return stop_; }
  void stop_soon() { stop_ = true; }
  /// When it ends before it is whole, nothing of it is kept.
  void discard() { discard_ = true; }
  [[nodiscard]] bool is_discarded() const { return discard_; }

  /// Brings what is here already in other files, into the storage; throws what `check_wanted` does.
  using Reuse = std::function<Task<void>(Download&, Storage&, const HashedFile&)>;
  void set_reuse(Reuse reuse) { reuse_ = std::move(reuse); }

  // For the ways in which it arrives.

  /// What it ends with, if it does, is that this version is not to be had any more.
  void lose_version() { version_gone_ = true; }
  [[nodiscard]] bool has_lost_version() const { return version_gone_; }
  /// So many bytes of it were here already.
  void show_reused(std::int64_t bytes) { info_.reused = bytes; }
  /// What has been written needs no room any more.
  void reserve_rest() { reserve(); }
  /// Claims the content, once nobody else brings the same bytes. Throws Error(interrupted).
  Task<void> claim(ContentId id);
  /// What has arrived, which is whole, becomes the file. `part`: where it lies. Throws Error.
  Task<void> place(ContentId id, std::filesystem::path part);

 protected:
  [[nodiscard]] bool is_wanted() const override { return has_askers(); }
  [[nodiscard]] Error stopped() const override;
  Task<StoragePtr> make_storage(const VerifiedTorrent& torrent, Role role) override;
  Task<void> fill_from_here(const HashedFile& file) override;
  void prepare() override;
  Task<void> wait_for_room() override;
  void reserve() override { reservation_.set(missing()); }
  Task<void> recover_disk() override;
  void adjust_limits() override;
  Task<void> save() override { static_cast<void>(co_await parts_.save(stored_, storage_, wanted_.path)); }
  void drop(const ContentId& id) override { parts_.drop(id); }

 private:
  [[nodiscard]] bool is_read_along() const;
  [[nodiscard]] bool waits_for_room() const;
  [[nodiscard]] Error no_room(std::int64_t needed) const;

  Parts& parts_;
  FileOrder order_;
  Reuse reuse_;
  Outcome outcome_;
  std::vector<AskerPtr> askers_;
  std::atomic<bool> stop_ = false;
  bool discard_ = false;
  bool version_gone_ = false;
};

}  // namespace mesh
