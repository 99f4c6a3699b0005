// What a node remembers across restarts, in one SQLite file in the state directory: content ids of files by their
// stamps, what meshget wrote, torrents, partial downloads and unfinished gets.
//
// All of it can be lost without losing a byte of anybody's files: a database that cannot be read is set aside and begun
// anew. Thread-safe (one lock around each call); calls block, briefly.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/digest.h"
#include "disk/fd.h"

struct sqlite3;
struct sqlite3_stmt;

namespace mesh {

/// The torrent of a file for other BitTorrent clients (wire/standard_torrent.h), as this node has computed it.
struct StoredStandardTorrent {
  ContentId id;  ///< the file's
  InfoHash infohash;
  std::string info;
};

/// A partial download. `have` has a byte a piece, `roots` 32 bytes a piece; `blocks` says which blocks of other pieces
/// are there (Parts knows how). All speak of data that was synced before.
struct StoredPart {
  ContentId id;
  std::string have;
  std::string roots;
  std::string path;      ///< under which it was wanted last
  std::string blocks{};  ///< none: empty
};

class StateDb {
 public:
  /// `file` may lead through a descriptor of its directory (/proc/self/fd/N). Throws Error(failed) when the directory
  /// cannot be written.
  explicit StateDb(const std::filesystem::path& file);
  /// Where the file was taken away: writes all of it to its place again. Returns whether that was so.
  bool look_after();
  ~StateDb();

  [[nodiscard]] std::optional<ContentId> find_hash(const FileStamp& stamp);
  void put_hash(const FileStamp& stamp, const ContentId& id);

  /// What meshget last wrote at `path`: its content, if the stamp still is that of then.
  struct Received {
    ContentId id;
    bool unchanged = false;
  };
  /// Of which URL what a get wrote at `path` is, if nothing but its names and modes has changed since; else empty.
  [[nodiscard]] std::string find_origin(std::string_view path, const FileStamp& now);
  [[nodiscard]] std::optional<Received> find_received(std::string_view path, const FileStamp& now);
  void put_received(std::string_view path, const FileStamp& stamp, const ContentId& id, std::string_view origin = {});
  void remove_received(std::string_view path);

  /// Directories that gets have made, or with an id of zeros were about to make, and that do not have their modes yet.
  /// One that was about to be made leaves what is known of one that was made, and so does that it was not made after
  /// all.
  void put_made(std::string_view path, const DirectoryId& id);
  void forget_unmade(std::string_view path);
  [[nodiscard]] std::vector<std::string> made();
  [[nodiscard]] bool is_made(std::string_view path, const DirectoryId& id);
  void remove_made(std::string_view path);

  /// The roots of the pieces of content `id`, 32 bytes each; empty where they are not known.
  [[nodiscard]] std::string find_roots(const ContentId& id);
  void put_roots(const ContentId& id, std::string_view roots);

  [[nodiscard]] std::optional<StoredStandardTorrent> find_standard_torrent(const ContentId& id);
  [[nodiscard]] std::optional<StoredStandardTorrent> find_standard_torrent(const InfoHash& infohash);
  void put_standard_torrent(const StoredStandardTorrent& torrent);

  [[nodiscard]] std::optional<StoredPart> find_part(const ContentId& id);
  void put_part(const StoredPart& part);
  /// Is on the disk when this returns: a record must not come back after a power loss beside other bytes.
  void remove_part(const ContentId& id);
  /// It is there for readers alone (transfer/read_cache.h), who used it last at this time, seconds since the epoch; 0:
  /// a get wants it.
  void set_read(const ContentId& id, std::int64_t used);
  [[nodiscard]] bool is_read(const ContentId& id);
  /// It was used at that time, if it still is there for readers alone.
  void touch_read(const ContentId& id, std::int64_t used);
  /// Those, the one that was used longest ago first.
  [[nodiscard]] std::vector<ContentId> read_parts();

  /// What is read first of a content (core/read_profile.h): seen here, or told by others. The `most_profiles` that
  /// were written or read last (to the minute), those that were seen here before all others; `now` in seconds since the
  /// epoch. What was seen here is not replaced by what is told.
  static constexpr std::int64_t most_profiles = 200;
  static constexpr std::int64_t profile_used_seconds = 60;
  struct Profile {
    std::string told;
    bool is_own = false;
  };
  [[nodiscard]] std::optional<Profile> find_profile(const ContentId& id, std::int64_t now);
  void put_profile(const ContentId& id, const Profile& profile, std::int64_t now);
  [[nodiscard]] std::int64_t profiles();  ///< how many there are

  /// What a request was answered (node/once.h), kept until it has been heard: the newest `most_answers`, for ten
  /// minutes. `now` in seconds since the epoch.
  static constexpr std::int64_t most_answers = 500;
  static constexpr std::int64_t answer_seconds = 600;
  [[nodiscard]] std::optional<std::string> find_answer(std::string_view once);
  void put_answer(std::string_view once, std::int64_t now, std::string_view answer);
  void remove_answer(std::string_view once);

  /// The partials that were wanted under `path`.
  [[nodiscard]] std::vector<ContentId> parts_of(std::string_view path);
  /// All of them, with their paths.
  [[nodiscard]] std::vector<std::pair<ContentId, std::string>> parts();

  /// Gets that have not ended, as they were asked for.
  [[nodiscard]] std::vector<std::pair<std::int64_t, std::string>> gets();
  std::int64_t add_get(std::string_view request);
  void change_get(std::int64_t number, std::string_view request);
  /// Nothing of the request stays in the file.
  void remove_get(std::int64_t number);

  /// How gets ended, as many as the caller leaves here.
  [[nodiscard]] std::vector<std::string> ended();
  void put_ended(std::int64_t number, std::string_view outcome);
  void remove_ended(std::int64_t number);

  /// A short text under a key; empty when there is none.
  [[nodiscard]] std::string find_note(std::string_view key);
  void put_note(std::string_view key, std::string_view text);

  /// Everything between construction and destruction is written at once: for many small changes.
  class Batch {
   public:
    explicit Batch(StateDb& db);
    ~Batch();
    Batch(const Batch&) = delete;
    Batch& operator=(const Batch&) = delete;

   private:
    StateDb& db_;
    std::unique_lock<std::recursive_mutex> lock_;
  };

 private:
  class Statement;
  void open(const std::filesystem::path& file);
  void close();
  void execute(const char* sql);

  std::filesystem::path file_;
  sqlite3* db_ = nullptr;
  std::unordered_map<const char*, sqlite3_stmt*> prepared_;
  struct CameFrom {
    FileStamp stamp;
    std::string origin;
  };
  void load_origins();
  std::map<std::string, CameFrom, std::less<>> origins_;  ///< by path; few files are of a URL
  std::recursive_mutex mutex_;
};

}  // namespace mesh
