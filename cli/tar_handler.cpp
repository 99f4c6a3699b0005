// tar: unpacks an archive beside itself while it arrives.
#include <fcntl.h>
#include <sys/stat.h>

#include <condition_variable>
#include <deque>
#include <filesystem>
#include <mutex>
#include <thread>

#include "core/error.h"
#include "core/format.h"
#include "core/glob.h"
#include "core/mesh_path.h"
#include "core/url.h"
#include "disk/directory.h"
#include "disk/state_dir.h"
#include "handler.h"
#include "library/path_gate.h"
#include "unpack/tree.h"

namespace mesh {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view prefix = "tar:";
constexpr std::size_t most_queued = std::size_t{16} << 20;
constexpr std::size_t head_bytes = 512;
constexpr const char* temp_prefix = ".mesh-unpack-";

/// The archive's bytes between the command's loop, which puts them in, and the thread that unpacks them.
class ByteQueue final : public ArchiveSource {
 public:
  /// Waits while too much is queued. False when nobody reads any more.
  bool put(std::string bytes) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return queued_ < most_queued || closed_; });
    if (closed_) return false;
    queued_ += bytes.size();
    chunks_.push_back(std::move(bytes));
    changed_.notify_all();
    return true;
  }
  /// Nothing comes any more: all of it was there, or not.
  void end(bool whole) {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    broken_ = broken_ || !whole;
    changed_.notify_all();
  }
  /// Nothing is read any more.
  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    chunks_.clear();
    changed_.notify_all();
  }
  /// The first bytes, which stay in the queue.
  std::string head() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return queued_ >= head_bytes || ended_; });
    std::string out;
    for (const auto& chunk : chunks_) {
      out += chunk;
      if (out.size() >= head_bytes) break;
    }
    return out;
  }
  std::span<const char> next() override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !chunks_.empty() || ended_; });
    // A part of an archive may look like a whole one.
    if (broken_) throw Error(Status::interrupted, "stopped");
    if (chunks_.empty()) return {};
    current_ = std::move(chunks_.front());
    chunks_.pop_front();
    queued_ -= current_.size();
    changed_.notify_all();
    return current_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> chunks_;
  std::string current_;
  std::size_t queued_ = 0;
  bool ended_ = false, broken_ = false, closed_ = false;
};

/// One unpacking of bytes that arrive, on a thread of its own.
class Unpacker {
 public:
  Unpacker(const fs::path& place, const UnpackLimits& limits, const std::string& name)
      : temp_(place, temp_prefix), thread_([this, limits, name] { run(limits, name); }) {}
  ~Unpacker() {
    queue_.end(false);
    if (thread_.joinable()) thread_.join();
  }
  bool put(std::string bytes) { return queue_.put(std::move(bytes)); }

  /// After the last byte: what was unpacked; nothing where the format cannot be unpacked in order.
  std::optional<Unpacked> finish() {
    queue_.end(true);
    thread_.join();
    if (error_) std::rethrow_exception(error_);
    return result_;
  }
  /// Why it has given up, where it has.
  [[nodiscard]] std::exception_ptr error() {
    queue_.end(false);
    if (thread_.joinable()) thread_.join();
    return error_;
  }
  [[nodiscard]] TempTree& temp() { return temp_; }

 private:
  void run(const UnpackLimits& limits, const std::string& name) {
    try {
      if (is_streamable(queue_.head())) result_ = unpack(queue_, temp_.fd(), limits, name);
    } catch (...) {
      error_ = std::current_exception();
    }
    gives_up_ = error_ != nullptr;
    if (gives_up_) queue_.close();
    // What lies behind the archive's end is of no interest, and neither is all of what cannot be unpacked in order.
    while (!gives_up_) {
      try {
        if (queue_.next().empty()) return;
      } catch (const Error&) {
        return;
      }
    }
  }

  ByteQueue queue_;
  TempTree temp_;
  std::optional<Unpacked> result_;
  std::exception_ptr error_;
  bool gives_up_ = false;
  std::thread thread_;  ///< last: it uses the others
};

class TarHandler final : public Handler {
 public:
  TarHandler(const std::string& text, HandlerOptions options) : options_(std::move(options)) {
    const auto inner = text.substr(prefix.size());
    const fs::path given(inner);
    std::error_code ec;
    const bool below_files = options_.files.relative(given.lexically_normal().string()).has_value();
    if (given.is_absolute() && !below_files && fs::is_regular_file(given, ec)) {
      outside_ = fs::canonical(given, ec);
      if (ec) throw Error(Status::failed, printable(inner) + ": " + ec.message());
      name_ = printable(outside_.string());
      return;
    }
    const auto what = parse_what(inner, options_.files);
    if (what.pattern.empty())
      throw Error(Status::usage, printable(without_secrets(text)) + ": tar: takes one file, no directory");
    // One file, whatever its name looks like.
    source_ = what.is_glob ? path_text(what.pattern) : inner;
    path_ = what.pattern;
    name_ = printable(path_);
  }

  std::optional<std::string> source() const override {
    return outside_.empty() ? std::optional(source_) : std::nullopt;
  }
  void set_places(const NodePaths& places) override {
    options_.files = {places.files, places.real};
    options_.state = places.state;
    state_.reset();
  }

  bool begin(const StreamBegin& file) override {
    unpacker_.reset();
    if (file.path != path_) return true;
    if (find_unpacked(file.id, {})) return true;  // it is there
    unpacker_ = std::make_unique<Unpacker>(temp_place(), options_.limits, name_);
    streamed_ = file;
    received_ = 0;
    return true;
  }
  bool take(std::string bytes) override {
    if (options_.limits.stop != nullptr && *options_.limits.stop) throw Error(Status::interrupted, "stopped");
    received_ += static_cast<std::int64_t>(bytes.size());
    if (!unpacker_ || unpacker_->put(std::move(bytes))) return true;
    // Why is said by what it throws.
    if (const auto error = unpacker_->error()) std::rethrow_exception(error);
    return false;
  }

  GetOutcome finish(GetOutcome source) override {
    const fs::path archive = outside_.empty() ? fs::path(source.path) : outside_;
    struct stat s {};
    if (::stat(archive.c_str(), &s) != 0)
      throw Error(Status::failed, name_ + ": " + std::generic_category().message(errno));
    if (!S_ISREG(s.st_mode))
      throw Error(Status::usage, name_ + ": tar: takes one file, and this is " +
                                     (S_ISDIR(s.st_mode) ? "a directory" : "no regular file"));
    TreeRecord record;
    record.source = source.id;
    record.archive = stamp_of(s);
    const auto kept = find_unpacked(record.source, record.archive);
    GetOutcome out = std::move(source);
    out.print = true;
    out.kept = kept.has_value();
    if (kept) {
      out.path = kept->path;
      unpacker_.reset();
      return out;
    }
    std::optional<Unpacked> unpacked;
    // What was unpacked on the way must be what is in place now, and all of it.
    if (unpacker_ && (received_ != streamed_.size || s.st_size != streamed_.size ||
                      (streamed_.id.is_set() && streamed_.id != record.source)))
      unpacker_.reset();
    if (unpacker_) unpacked = unpacker_->finish();
    std::unique_ptr<TempTree> temp;
    if (!unpacked) {
      const Fd file(::open(archive.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
      if (!file) throw Error(Status::failed, name_ + ": " + std::generic_category().message(errno));
      temp = std::make_unique<TempTree>(temp_place(), temp_prefix);
      unpacked = unpack(file.get(), temp->fd(), options_.limits, name_);
      if (::fstat(file.get(), &s) != 0 || stamp_of(s) != record.archive)
        throw Error(Status::failed, name_ + ": changed while it was unpacked");
    }
    place(*unpacked, temp ? *temp : unpacker_->temp(), std::move(record), out);
    unpacker_.reset();
    return out;
  }

 private:
  /// Where that serves: one without set-user-id bits is none where they are asked for.
  [[nodiscard]] std::optional<TreeRecord> find_unpacked(const ContentId& source, const FileStamp& archive) const {
    auto out = records().find_unpacked(parent(), source, archive);
    if (out && out->lacks_setid && options_.limits.keep_setid) out.reset();
    return out;
  }
  void place(const Unpacked& unpacked, TempTree& temp, TreeRecord record, GetOutcome& out) {
    if (outside_.empty() && parent() == options_.files.given && unpacked.top == reserved_part)
      throw Error(Status::failed, name_ + ": its top-level directory has the name of the state directory");
    TreePlace place;
    const Fd parent_fd = open_parent();
    place.parent = parent_fd.get();
    place.path = parent();
    place.force = options_.force;
    record.lacks_setid = unpacked.dropped_setid;
    const auto placed = place_tree(temp, unpacked.top, place, records(), std::move(record));
    out.path = placed.path;
    for (const auto& line : unpacked.skipped) options_.tell(name_ + ": " + line);
    if (placed.replaced) options_.tell(printable(placed.path) + ": an older one was replaced");
  }

  /// Opened here, by this command's own checks, whoever named it.
  [[nodiscard]] const StateDir& state() const {
    if (!state_) state_ = std::make_unique<StateDir>(options_.state, Trust{group_number(options_.group)});
    return *state_;
  }
  [[nodiscard]] TreeRecords records() const { return TreeRecords(state().handle()); }
  [[nodiscard]] std::string parent() const {
    if (!outside_.empty()) return outside_.parent_path().string();
    const auto above = parent_path(path_);
    return above.empty() ? options_.files.given : (fs::path(options_.files.given) / above).string();
  }
  /// Where the archive is, and where the tree is to be.
  [[nodiscard]] Fd open_parent() const {
    if (outside_.empty())
      return PathGate(options_.files.given, state().fd(), {}, group_number(options_.group)).open_parent(path_);
    Fd out(::open(parent().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!out) throw Error(Status::failed, printable(parent()) + ": " + std::generic_category().message(errno));
    return out;
  }
  /// In the state directory, unless a rename could not lead from there to the tree's place.
  [[nodiscard]] fs::path temp_place() const {
    const Fd there(::open(parent().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!outside_.empty() || (there && !is_same_mount(there.get(), state().fd()))) return parent();
    return state().handle() / "unpack";
  }

  HandlerOptions options_;
  mutable std::unique_ptr<StateDir> state_;
  std::string source_;  ///< the WHAT without the prefix
  std::string path_;    ///< its mesh path
  fs::path outside_;    ///< an archive of this node that is no file of the mesh
  std::string name_;    ///< for messages
  std::unique_ptr<Unpacker> unpacker_;
  StreamBegin streamed_;       ///< what it unpacks
  std::int64_t received_ = 0;  ///< of that
};

}  // namespace

std::unique_ptr<Handler> handler_for(const std::string& what, const HandlerOptions& options) {
  if (what.starts_with(prefix)) return std::make_unique<TarHandler>(what, options);
  return nullptr;
}

}  // namespace mesh
