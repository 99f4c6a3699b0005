#include "library/state_db.h"

#include <sqlite3.h>

#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace mesh {
namespace {

/// SQLite's own way to files, but for one thing: it would turn a path through a descriptor into the path that the
/// directory had, which may lead elsewhere by now.
const char* direct_vfs() {
  static const char* const name = [] {
    static sqlite3_vfs direct = *sqlite3_vfs_find(nullptr);
    direct.pNext = nullptr;
    direct.zName = "mesh-direct";
    direct.xFullPathname = [](sqlite3_vfs*, const char* path, int size, char* out) {
      const auto length = std::strlen(path) + 1;
      if (length > static_cast<std::size_t>(size)) return SQLITE_CANTOPEN;
      std::copy_n(path, length, out);
      return SQLITE_OK;
    };
    sqlite3_vfs_register(&direct, 0);
    return direct.zName;
  }();
  return name;
}

constexpr const char* schema =
    // Requests may hold passwords of URLs: what is deleted is overwritten.
    "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=5000; PRAGMA secure_delete=ON;"
    "CREATE TABLE IF NOT EXISTS hashes(device INTEGER, inode INTEGER, size INTEGER, mtime INTEGER, ctime INTEGER, id "
    "BLOB,"
    " PRIMARY KEY(device, inode)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS received(path TEXT PRIMARY KEY, device INTEGER, inode INTEGER, size INTEGER, mtime "
    "INTEGER,"
    " ctime INTEGER, id BLOB) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS origins(path TEXT PRIMARY KEY, origin TEXT) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS made(path BLOB PRIMARY KEY, device INTEGER, inode INTEGER) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS foreign_torrents(id BLOB PRIMARY KEY, infohash BLOB, info BLOB);"
    "CREATE INDEX IF NOT EXISTS foreign_by_infohash ON foreign_torrents(infohash);"
    // Earlier versions kept what others had told them there.
    "DROP TABLE IF EXISTS torrents;"
    "CREATE TABLE IF NOT EXISTS roots(id BLOB PRIMARY KEY, roots BLOB);"
    "CREATE TABLE IF NOT EXISTS partials(id BLOB PRIMARY KEY, have BLOB, roots BLOB, path BLOB);"
    "CREATE TABLE IF NOT EXISTS partial_blocks(id BLOB PRIMARY KEY, blocks BLOB);"
    "CREATE TABLE IF NOT EXISTS read_partials(id BLOB PRIMARY KEY, used INTEGER);"
    "CREATE TABLE IF NOT EXISTS ended(number INTEGER PRIMARY KEY, outcome BLOB);"
    "CREATE TABLE IF NOT EXISTS gets(number INTEGER PRIMARY KEY AUTOINCREMENT, request BLOB);"
    "CREATE TABLE IF NOT EXISTS answers(once TEXT PRIMARY KEY, given INTEGER, answer BLOB) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS profiles(id BLOB PRIMARY KEY, told BLOB, own INTEGER, used INTEGER) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS notes(key TEXT PRIMARY KEY, text TEXT) WITHOUT ROWID;"
    // What is there may be something else of these names.
    "SELECT device, inode, size, mtime, ctime, id FROM hashes LIMIT 0;"
    "SELECT path, device, inode, size, mtime, ctime, id FROM received LIMIT 0;"
    "SELECT path, origin FROM origins LIMIT 0;"
    "SELECT path, device, inode FROM made LIMIT 0;"
    "SELECT id, infohash, info FROM foreign_torrents LIMIT 0; SELECT id, roots FROM roots LIMIT 0; SELECT id, have, "
    "roots, "
    "path FROM partials LIMIT 0;"
    "SELECT id, blocks FROM partial_blocks LIMIT 0;"
    "SELECT number, outcome FROM ended LIMIT 0; SELECT number, request FROM gets LIMIT 0;"
    "SELECT key, text FROM notes LIMIT 0;";

}  // namespace

/// One prepared statement, bound and stepped in order. Failures read as "no row": what is stored here is a cache.
class StateDb::Statement {
 public:
  /// `sql` is a literal: prepared once, and found again by its address.
  Statement(StateDb& db, const char* sql) : lock_(db.mutex_) {
    auto& prepared = db.prepared_[sql];
    if (prepared == nullptr) sqlite3_prepare_v2(db.db_, sql, -1, &prepared, nullptr);
    statement_ = prepared;
  }
  ~Statement() {
    if (statement_ == nullptr) return;
    sqlite3_reset(statement_);
    sqlite3_clear_bindings(statement_);
  }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& bind(std::int64_t value) {
    sqlite3_bind_int64(statement_, ++bound_, value);
    return *this;
  }
  Statement& bind(std::string_view value) {
    sqlite3_bind_blob64(statement_, ++bound_, value.data(), value.size(), SQLITE_TRANSIENT);
    return *this;
  }
  Statement& bind(const FileStamp& stamp) {
    return bind(static_cast<std::int64_t>(stamp.device))
        .bind(static_cast<std::int64_t>(stamp.inode))
        .bind(stamp.size)
        .bind(stamp.mtime)
        .bind(stamp.ctime);
  }
  bool row() { return sqlite3_step(statement_) == SQLITE_ROW; }
  void run() { sqlite3_step(statement_); }
  std::int64_t number(int column) { return sqlite3_column_int64(statement_, column); }
  std::string bytes(int column) {
    const auto* data = static_cast<const char*>(sqlite3_column_blob(statement_, column));
    return data == nullptr ? std::string{}
                           : std::string(data, static_cast<std::size_t>(sqlite3_column_bytes(statement_, column)));
  }
  FileStamp stamp(int column) {
    return {static_cast<std::uint64_t>(number(column)), static_cast<std::uint64_t>(number(column + 1)),
            number(column + 2), number(column + 3), number(column + 4)};
  }

 private:
  std::unique_lock<std::recursive_mutex> lock_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
};

StateDb::StateDb(const std::filesystem::path& file) : file_(file) {
  try {
    open(file);
  } catch (const Error&) {
    // Torn by a crash or written by something else. Nothing in it is the only copy of anything.
    std::error_code ec;
    std::filesystem::rename(file, file.string() + ".unreadable", ec);
    std::filesystem::remove(file.string() + "-wal", ec);
    std::filesystem::remove(file.string() + "-shm", ec);
    open(file);
  }
  load_origins();
}

void StateDb::open(const std::filesystem::path& file) {
  const int opened = sqlite3_open_v2(file.c_str(), &db_,
                                     SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX, direct_vfs());
  bool good = opened == SQLITE_OK && sqlite3_exec(db_, schema, nullptr, nullptr, nullptr) == SQLITE_OK;
  if (good) {
    Statement check(*this, "PRAGMA quick_check(1)");
    good = check.row() && check.bytes(0) == "ok";
  }
  if (good) return;
  const std::string why = sqlite3_errmsg(db_);
  close();
  db_ = nullptr;
  throw Error(Status::failed, file.string() + ": cannot open the state database: " + why);
}

StateDb::~StateDb() { close(); }

bool StateDb::look_after() {
  const std::lock_guard lock(mutex_);
  struct stat s {};
  if (::lstat(file_.c_str(), &s) == 0) return false;
  // What is open is all there still, without a name.
  auto* lost = db_;
  for (const auto& [sql, statement] : prepared_) sqlite3_finalize(statement);
  prepared_.clear();
  db_ = nullptr;
  const std::shared_ptr<void> closed(nullptr, [lost](void*) { sqlite3_close(lost); });
  std::error_code ec;
  std::filesystem::remove(file_.string() + "-wal", ec);
  std::filesystem::remove(file_.string() + "-shm", ec);
  sqlite3* fresh = nullptr;
  if (sqlite3_open_v2(file_.c_str(), &fresh, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, direct_vfs()) == SQLITE_OK)
    if (auto* copy = sqlite3_backup_init(fresh, "main", lost, "main")) {
      sqlite3_backup_step(copy, -1);
      sqlite3_backup_finish(copy);
    }
  sqlite3_close(fresh);
  open(file_);
  return true;
}

void StateDb::close() {
  for (const auto& [sql, statement] : prepared_) sqlite3_finalize(statement);
  prepared_.clear();
  sqlite3_close(db_);
}

void StateDb::execute(const char* sql) { sqlite3_exec(db_, sql, nullptr, nullptr, nullptr); }

StateDb::Batch::Batch(StateDb& db) : db_(db), lock_(db.mutex_) { db_.execute("BEGIN"); }
StateDb::Batch::~Batch() { db_.execute("COMMIT"); }

std::optional<ContentId> StateDb::find_hash(const FileStamp& stamp) {
  Statement s(*this, "SELECT id FROM hashes WHERE device=? AND inode=? AND size=? AND mtime=? AND ctime=?");
  return s.bind(stamp).row() ? ContentId::from(s.bytes(0)) : std::nullopt;
}

void StateDb::put_hash(const FileStamp& stamp, const ContentId& id) {
  Statement(*this, "INSERT OR REPLACE INTO hashes VALUES(?,?,?,?,?,?)").bind(stamp).bind(id.view()).run();
}

std::optional<StateDb::Received> StateDb::find_received(std::string_view path, const FileStamp& now) {
  Statement s(*this, "SELECT id, device, inode, size, mtime, ctime FROM received WHERE path=?");
  if (!s.bind(path).row()) return std::nullopt;
  const auto id = ContentId::from(s.bytes(0));
  if (!id) return std::nullopt;
  return Received{*id, s.stamp(1) == now};
}

void StateDb::put_received(std::string_view path, const FileStamp& stamp, const ContentId& id,
                           std::string_view origin) {
  const std::lock_guard lock(mutex_);
  Statement(*this, "INSERT OR REPLACE INTO received VALUES(?,?,?,?,?,?,?)")
      .bind(path)
      .bind(stamp)
      .bind(id.view())
      .run();
  if (const auto known = origins_.find(path); known != origins_.end() && origin.empty()) {
    Statement(*this, "DELETE FROM origins WHERE path=?").bind(path).run();
    origins_.erase(known);
  }
  if (origin.empty()) return;
  Statement(*this, "INSERT OR REPLACE INTO origins VALUES(?,?)").bind(path).bind(origin).run();
  origins_.insert_or_assign(std::string(path), CameFrom{stamp, std::string(origin)});
}

std::string StateDb::find_origin(std::string_view path, const FileStamp& now) {
  const std::lock_guard lock(mutex_);
  const auto at = origins_.find(path);
  return at != origins_.end() && is_same_but_ctime(at->second.stamp, now) ? at->second.origin : std::string();
}

void StateDb::load_origins() {
  Statement s(*this, "SELECT path, device, inode, size, mtime, ctime, origin FROM origins NATURAL JOIN received");
  while (s.row()) origins_.insert_or_assign(s.bytes(0), CameFrom{s.stamp(1), s.bytes(6)});
}

std::string StateDb::find_roots(const ContentId& id) {
  Statement s(*this, "SELECT roots FROM roots WHERE id=?");
  return s.bind(id.view()).row() ? s.bytes(0) : std::string();
}

void StateDb::put_roots(const ContentId& id, std::string_view roots) {
  Statement(*this, "INSERT OR REPLACE INTO roots VALUES(?,?)").bind(id.view()).bind(roots).run();
}

std::optional<StoredStandardTorrent> StateDb::find_standard_torrent(const ContentId& id) {
  Statement s(*this, "SELECT infohash, info FROM foreign_torrents WHERE id=?");
  if (!s.bind(id.view()).row()) return std::nullopt;
  const auto infohash = InfoHash::from(s.bytes(0));
  if (!infohash) return std::nullopt;
  return StoredStandardTorrent{id, *infohash, s.bytes(1)};
}

std::optional<StoredStandardTorrent> StateDb::find_standard_torrent(const InfoHash& infohash) {
  Statement s(*this, "SELECT id, info FROM foreign_torrents WHERE infohash=?");
  if (!s.bind(infohash.view()).row()) return std::nullopt;
  const auto id = ContentId::from(s.bytes(0));
  if (!id) return std::nullopt;
  return StoredStandardTorrent{*id, infohash, s.bytes(1)};
}

void StateDb::put_standard_torrent(const StoredStandardTorrent& torrent) {
  Statement(*this, "INSERT OR REPLACE INTO foreign_torrents VALUES(?,?,?)")
      .bind(torrent.id.view())
      .bind(torrent.infohash.view())
      .bind(torrent.info)
      .run();
}

std::optional<StoredPart> StateDb::find_part(const ContentId& id) {
  Statement s(*this, "SELECT have, roots, path FROM partials WHERE id=?");
  if (!s.bind(id.view()).row()) return std::nullopt;
  StoredPart out{id, s.bytes(0), s.bytes(1), s.bytes(2)};
  if (Statement blocks(*this, "SELECT blocks FROM partial_blocks WHERE id=?"); blocks.bind(id.view()).row())
    out.blocks = blocks.bytes(0);
  return out;
}

void StateDb::put_part(const StoredPart& part) {
  const Batch both(*this);
  if (part.blocks.empty())
    Statement(*this, "DELETE FROM partial_blocks WHERE id=?").bind(part.id.view()).run();
  else
    Statement(*this, "INSERT OR REPLACE INTO partial_blocks VALUES(?,?)").bind(part.id.view()).bind(part.blocks).run();
  Statement(*this, "INSERT OR REPLACE INTO partials VALUES(?,?,?,?)")
      .bind(part.id.view())
      .bind(part.have)
      .bind(part.roots)
      .bind(part.path)
      .run();
}

void StateDb::remove_received(std::string_view path) {
  const std::lock_guard lock(mutex_);
  Statement(*this, "DELETE FROM received WHERE path=?").bind(path).run();
  const auto known = origins_.find(path);
  if (known == origins_.end()) return;
  Statement(*this, "DELETE FROM origins WHERE path=?").bind(path).run();
  origins_.erase(known);
}

void StateDb::put_made(std::string_view path, const DirectoryId& id) {
  Statement(*this, id == DirectoryId{} ? "INSERT OR IGNORE INTO made VALUES(?,?,?)"
                                       : "INSERT OR REPLACE INTO made VALUES(?,?,?)")
      .bind(path)
      .bind(static_cast<std::int64_t>(id.device))
      .bind(static_cast<std::int64_t>(id.inode))
      .run();
}

void StateDb::forget_unmade(std::string_view path) {
  Statement(*this, "DELETE FROM made WHERE path=? AND inode=0").bind(path).run();
}

std::vector<std::string> StateDb::made() {
  std::vector<std::string> out;
  Statement s(*this, "SELECT path FROM made");
  while (s.row()) out.push_back(s.bytes(0));
  return out;
}

bool StateDb::is_made(std::string_view path, const DirectoryId& id) {
  Statement s(*this, "SELECT 1 FROM made WHERE path=? AND ((device=? AND inode=?) OR inode=0)");
  return s.bind(path).bind(static_cast<std::int64_t>(id.device)).bind(static_cast<std::int64_t>(id.inode)).row();
}

void StateDb::remove_made(std::string_view path) { Statement(*this, "DELETE FROM made WHERE path=?").bind(path).run(); }

void StateDb::remove_part(const ContentId& id) {
  const std::lock_guard lock(mutex_);
  if (!find_part(id)) return;
  execute("PRAGMA synchronous=FULL");
  const std::shared_ptr<void> back(nullptr, [this](void*) { execute("PRAGMA synchronous=NORMAL"); });
  const Batch both(*this);
  Statement(*this, "DELETE FROM partials WHERE id=?").bind(id.view()).run();
  Statement(*this, "DELETE FROM partial_blocks WHERE id=?").bind(id.view()).run();
  set_read(id, 0);
}

void StateDb::set_read(const ContentId& id, std::int64_t used) {
  if (used == 0)
    Statement(*this, "DELETE FROM read_partials WHERE id=?").bind(id.view()).run();
  else
    Statement(*this, "INSERT OR REPLACE INTO read_partials VALUES(?,?)").bind(id.view()).bind(used).run();
}

bool StateDb::is_read(const ContentId& id) {
  Statement s(*this, "SELECT 1 FROM read_partials WHERE id=?");
  return s.bind(id.view()).row();
}

void StateDb::touch_read(const ContentId& id, std::int64_t used) {
  Statement(*this, "UPDATE read_partials SET used=? WHERE id=?").bind(used).bind(id.view()).run();
}

std::optional<std::string> StateDb::find_answer(std::string_view once) {
  Statement s(*this, "SELECT answer FROM answers WHERE once=?");
  return s.bind(once).row() ? std::optional(s.bytes(0)) : std::nullopt;
}

void StateDb::put_answer(std::string_view once, std::int64_t now, std::string_view answer) {
  const Batch all(*this);
  Statement(*this, "DELETE FROM answers WHERE given<?").bind(now - answer_seconds).run();
  Statement(*this, "DELETE FROM answers WHERE once NOT IN (SELECT once FROM answers ORDER BY given DESC LIMIT ?)")
      .bind(most_answers - 1)
      .run();
  Statement(*this, "INSERT OR REPLACE INTO answers VALUES(?,?,?)").bind(once).bind(now).bind(answer).run();
}

std::optional<StateDb::Profile> StateDb::find_profile(const ContentId& id, std::int64_t now) {
  const std::lock_guard lock(mutex_);
  Profile out;
  {
    Statement s(*this, "SELECT told, own FROM profiles WHERE id=?");
    if (!s.bind(id.view()).row()) return std::nullopt;
    out = {s.bytes(0), s.number(1) != 0};
  }
  Statement(*this, "UPDATE profiles SET used=? WHERE id=? AND used<?")
      .bind(now)
      .bind(id.view())
      .bind(now - profile_used_seconds)
      .run();
  return out;
}

void StateDb::put_profile(const ContentId& id, const Profile& profile, std::int64_t now) {
  const Batch all(*this);
  Statement(*this,
            "INSERT INTO profiles VALUES(?,?,?,?) ON CONFLICT(id) DO UPDATE SET told=excluded.told, own=excluded.own,"
            " used=excluded.used WHERE excluded.own>=profiles.own")
      .bind(id.view())
      .bind(profile.told)
      .bind(profile.is_own ? 1 : 0)
      .bind(now)
      .run();
  Statement(*this,
            "DELETE FROM profiles WHERE id NOT IN (SELECT id FROM profiles ORDER BY own DESC, used DESC LIMIT ?)")
      .bind(most_profiles)
      .run();
}

std::int64_t StateDb::profiles() {
  Statement s(*this, "SELECT count(*) FROM profiles");
  return s.row() ? s.number(0) : 0;
}

void StateDb::remove_answer(std::string_view once) {
  Statement(*this, "DELETE FROM answers WHERE once=?").bind(once).run();
}

std::vector<ContentId> StateDb::read_parts() {
  std::vector<ContentId> out;
  Statement s(*this, "SELECT id FROM read_partials ORDER BY used");
  while (s.row())
    if (const auto id = ContentId::from(s.bytes(0))) out.push_back(*id);
  return out;
}

std::vector<ContentId> StateDb::parts_of(std::string_view path) {
  std::vector<ContentId> out;
  Statement s(*this, "SELECT id FROM partials WHERE path=?");
  s.bind(path);
  while (s.row())
    if (const auto id = ContentId::from(s.bytes(0))) out.push_back(*id);
  return out;
}

std::vector<std::pair<ContentId, std::string>> StateDb::parts() {
  std::vector<std::pair<ContentId, std::string>> out;
  Statement s(*this, "SELECT id, path FROM partials");
  while (s.row())
    if (const auto id = ContentId::from(s.bytes(0))) out.emplace_back(*id, s.bytes(1));
  return out;
}

std::vector<std::pair<std::int64_t, std::string>> StateDb::gets() {
  std::vector<std::pair<std::int64_t, std::string>> out;
  Statement s(*this, "SELECT number, request FROM gets ORDER BY number");
  while (s.row()) out.emplace_back(s.number(0), s.bytes(1));
  return out;
}

std::int64_t StateDb::add_get(std::string_view request) {
  const std::lock_guard lock(mutex_);
  Statement(*this, "INSERT INTO gets(request) VALUES(?)").bind(request).run();
  return sqlite3_last_insert_rowid(db_);
}

void StateDb::change_get(std::int64_t number, std::string_view request) {
  Statement(*this, "UPDATE gets SET request=?1 WHERE number=?2").bind(request).bind(number).run();
}

std::vector<std::string> StateDb::ended() {
  std::vector<std::string> out;
  Statement s(*this, "SELECT outcome FROM ended ORDER BY number");
  while (s.row()) out.push_back(s.bytes(0));
  return out;
}

void StateDb::put_ended(std::int64_t number, std::string_view outcome) {
  Statement(*this, "INSERT OR REPLACE INTO ended VALUES(?,?)").bind(number).bind(outcome).run();
}

void StateDb::remove_ended(std::int64_t number) {
  Statement(*this, "DELETE FROM ended WHERE number=?").bind(number).run();
}

void StateDb::remove_get(std::int64_t number) {
  const std::lock_guard lock(mutex_);
  bool has_secret = false;
  {
    Statement s(*this, "SELECT request FROM gets WHERE number=?");
    if (s.bind(number).row()) {
      const auto request = s.bytes(0);
      has_secret = request.find("://") != std::string::npos;
    }
  }
  Statement(*this, "DELETE FROM gets WHERE number=?").bind(number).run();
  // The journal has it, too.
  if (has_secret) execute("PRAGMA wal_checkpoint(TRUNCATE)");
}

std::string StateDb::find_note(std::string_view key) {
  Statement s(*this, "SELECT text FROM notes WHERE key=?");
  return s.bind(key).row() ? s.bytes(0) : std::string{};
}

void StateDb::put_note(std::string_view key, std::string_view text) {
  Statement(*this, "INSERT OR REPLACE INTO notes VALUES(?,?)").bind(key).bind(text).run();
}

}  // namespace mesh
