// What has arrived of files that are not whole: the partials in the state directory, with what of them is verified
// written down, so that a later download goes on from there; and how they become files. On the node's loop; blocking
// work goes to the pools.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/log.h"
#include "library/library.h"
#include "library/maker.h"
#include "swarm/session.h"
#include "transfer/order.h"
#include "transfer/room.h"
#include "wire/workers.h"

namespace mesh {

class Parts {
 public:
  Parts(Workers& workers, Library& library, const Room& room, Log log)
      : workers_(workers), library_(library), room_(room), log_(std::move(log)) {}

  struct Part {
    Fd file;
    std::string have;                         ///< a byte a piece: 1 where it is verified
    std::string roots;                        ///< 32 bytes a piece
    std::map<int, std::vector<bool>> blocks;  ///< of pieces that are here in part: which of them
    bool is_for_readers = true;               ///< no get has begun it
  };
  /// The partial file of a download, made or as an earlier one left it: what is said to be verified is read again,
  /// since nobody knows what became of it meanwhile, least of all after a power loss. `on_check` is called before that.
  /// Throws Error. `layout` must live until it returns. Single blocks are known again where their leaves are
  /// (BlockFacts).
  Task<std::shared_ptr<Part>> open(std::string path, ContentId id, const PieceLayout& layout,
                                   std::function<void()> on_check);
  /// The same for who reads it, and looks at each block when it is wanted: nothing of it is read, and what is said to
  /// be there is in `blocks`.
  Task<std::shared_ptr<Part>> open_unread(std::string path, ContentId id, const PieceLayout& layout);
  /// Writes down what has arrived and is on the disk of the file that is to be at `path`; and of `unread`, blocks that
  /// an earlier run had written down, that they are there still. False where it could not be written down.
  Task<bool> save(ContentId id, StoragePtr storage, std::string path, std::map<int, std::vector<bool>> unread = {});
  /// Whether another partial file can be made.
  [[nodiscard]] bool has_inode() const { return library_.installer().has_inode(); }
  /// The partial and its record. Blocks for as long as the file system takes to let go of it.
  void drop(const ContentId& id);
  [[nodiscard]] std::filesystem::path path_of(const ContentId& id) const { return library_.part_file(id); }

  /// Where a file goes that comes from its URL without a swarm.
  [[nodiscard]] std::filesystem::path path_of_url(const ContentId& url) const {
    return library_.parts_dir() / ("url-" + url.hex());
  }
  /// Hashes the whole file in `part` and remembers its roots. Throws Error.
  Task<ContentId> hash(std::filesystem::path part, std::int64_t size);
  /// By them a later download of it is checked, and it is seeded. `file` must live until it returns.
  Task<void> remember_roots(const HashedFile& file);
  /// Remembers which version of its origin's file has these bytes.
  Task<void> remember_origin(ContentId id, std::string validator);

  /// The file in `part`, which is whole and has content `id`, becomes the one that the order wants, is offered to the
  /// mesh, and, where there is a `torrent`, served from its place from then on. Throws Error; Mismatch where it has not
  /// the SHA-256 that was asked for, and is not put in place.
  struct Mismatch : Error {
    using Error::Error;
  };
  Task<void> place(const FileOrder& order, ContentId id, std::filesystem::path part, SwarmTorrentPtr torrent,
                   const std::atomic<bool>& stop);
  /// Has the SHA-256 that the order asks for, if any, of the file that is at its path. Throws as `place`.
  Task<void> check(const FileOrder& order, const std::atomic<bool>& stop);
  /// Drops what older versions of this path have left. Blocks as `drop`.
  void drop_older(const std::string& path);

  /// Copies the file that is at `from`, which had content `id`, to where the order wants it: as a reflink where the
  /// file system has them, its holes in any case. Throws Error, without a trace, for whatever may go wrong.
  Task<void> copy(const FileOrder& order, ContentId id, std::string from, const std::atomic<bool>& stop);

 private:
  Task<std::shared_ptr<Part>> open_as_left(std::string path, ContentId id, const PieceLayout& layout);

  Workers& workers_;
  Library& library_;
  const Room& room_;
  Log log_;
};

}  // namespace mesh
