#include "disk/mesh_disk.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <deque>
#include <libtorrent/disk_buffer_holder.hpp>
#include <libtorrent/disk_observer.hpp>
#include <libtorrent/operations.hpp>
#include <libtorrent/peer_request.hpp>
#include <libtorrent/storage_defs.hpp>
#include <libtorrent/units.hpp>
#include <set>
#include <thread>

namespace mesh {
namespace {

namespace asio = boost::asio;

constexpr std::size_t most_waiting = std::size_t{32} << 20;
constexpr std::size_t enough_room = std::size_t{16} << 20;
/// So much of one piece, and of all pieces of a torrent, is collected before a disk thread is woken for it: a wake-up
/// for each block costs more than writing it.
constexpr std::size_t piece_collects = std::size_t{512} << 10;
constexpr std::size_t torrent_collects = std::size_t{8} << 20;
/// So much a worker takes at a time, and so much must wait before another joins it.
constexpr std::size_t worker_takes = std::size_t{1} << 20;
/// Shorter pieces are of files that are synced in no time.
constexpr std::int64_t worth_writeback = std::int64_t{1} << 20;
const unsigned disk_threads = std::clamp(std::thread::hardware_concurrency(), 2U, 4U);

lt::storage_error to_storage_error(const std::error_code& ec, lt::operation_t operation) {
  if (!ec) return {};
  lt::storage_error out(lt::error_code(ec.value(), boost::system::generic_category()), operation);
  out.file(lt::file_index_t{0});
  return out;
}

/// Buffers of one block, kept for reuse.
class BlockPool final : public lt::buffer_allocator_interface {
 public:
  BlockPool() = default;
  ~BlockPool() {
    for (auto* block : free_) delete[] block;
  }
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;
  char* take() {
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        auto* block = free_.back();
        free_.pop_back();
        return block;
      }
    }
    return new char[block_bytes];
  }
  void free_disk_buffer(char* block) override {
    const std::lock_guard lock(mutex_);
    if (free_.size() < 1024)
      free_.push_back(block);
    else
      delete[] block;
  }

 private:
  std::mutex mutex_;
  std::vector<char*> free_;
};

/// A storage and what waits for it.
struct Queue {
  struct Block {
    int start = 0;
    int length = 0;
    char* bytes = nullptr;
    std::function<void(lt::storage_error const&)> on_written;
  };
  /// What is known of a piece before it is written. Touched on the network thread alone.
  struct Collected {
    std::vector<Block> blocks;
    std::size_t bytes = 0;
  };
  struct Job {
    enum class Kind { write, hash, clear, fence } kind = Kind::fence;
    int piece = 0;
    std::vector<Block> blocks{};
    std::function<void(lt::piece_index_t, lt::sha1_hash const&, lt::storage_error const&)> on_hashed;
    std::function<void()> on_passed;
  };
  StoragePtr storage;
  std::map<int, Collected> collected;
  std::size_t collected_bytes = 0;

  std::mutex mutex;  ///< guards what follows
  std::deque<Job> jobs;
  std::size_t queued_bytes = 0;  ///< in `jobs`
  std::set<int> busy;            ///< pieces that somebody works on
  unsigned workers = 0;

  /// What one worker can do now: jobs in their order, none of a piece that another works on, and a fence only when all
  /// before it are done or among them.
  std::vector<Job> take();
};

std::vector<Queue::Job> Queue::take() {
  std::vector<Job> out;
  std::size_t bytes = 0;
  for (auto job = jobs.begin(); job != jobs.end() && bytes < worker_takes;) {
    const bool is_fence = job->kind == Job::Kind::fence;
    if (is_fence && (job != jobs.begin() || !busy.empty())) break;
    if (!is_fence && busy.contains(job->piece)) {
      ++job;
      continue;
    }
    for (const auto& block : job->blocks) bytes += static_cast<std::size_t>(block.length);
    out.push_back(std::move(*job));
    job = jobs.erase(job);
  }
  queued_bytes -= bytes;
  for (const auto& job : out)
    if (job.kind != Job::Kind::fence) busy.insert(job.piece);
  return out;
}
using QueuePtr = std::shared_ptr<Queue>;

class MeshDisk final : public lt::disk_interface {
 public:
  MeshDisk(lt::io_context& io, std::shared_ptr<StorageRegistry> registry, std::int64_t& moved)
      : io_(io), registry_(std::move(registry)), moved_(moved), pool_(disk_threads) {}
  ~MeshDisk() override {
    pool_.join();
    writeback_.stop();
  }
  MeshDisk(const MeshDisk&) = delete;
  MeshDisk& operator=(const MeshDisk&) = delete;

  lt::storage_holder new_torrent(lt::storage_params const& params, std::shared_ptr<void> const&) override {
    auto queue = std::make_shared<Queue>();
    queue->storage = registry_->find(params.info_hash);
    std::size_t index = 0;
    while (index < queues_.size() && queues_[index]) ++index;
    if (index == queues_.size()) queues_.emplace_back();
    queues_[index] = std::move(queue);
    return {lt::storage_index_t(static_cast<std::uint32_t>(index)), *this};
  }
  void remove_torrent(lt::storage_index_t index) override {
    write_all(at(index));
    queues_[static_cast<std::uint32_t>(index)].reset();
  }

  void async_read(lt::storage_index_t index, lt::peer_request const& r,
                  std::function<void(lt::disk_buffer_holder, lt::storage_error const&)> handler,
                  lt::disk_job_flags_t) override {
    const auto queue = at(index);
    if (!queue->storage || r.length <= 0 || r.length > block_bytes || r.start < 0) {
      asio::post(io_, [handler = std::move(handler)] {
        handler({}, to_storage_error(std::make_error_code(std::errc::invalid_argument), lt::operation_t::file_read));
      });
      return;
    }
    moved_ += r.length;
    const int piece = static_cast<int>(r.piece);
    lt::disk_buffer_holder buffer(blocks_, blocks_.take(), r.length);
    if (queue->storage->read_cached(piece, r.start, {buffer.data(), static_cast<std::size_t>(r.length)})) {
      handler(std::move(buffer), {});
      return;
    }
    auto held = std::make_shared<lt::disk_buffer_holder>(std::move(buffer));
    // The guard keeps the network thread running until its answers are out.
    asio::post(pool_, [this, queue, piece, r, held, guard = asio::make_work_guard(io_),
                       handler = std::move(handler)]() mutable {
      const auto ec = queue->storage->read(piece, r.start, {held->data(), static_cast<std::size_t>(r.length)});
      asio::post(io_, [held, ec, handler = std::move(handler)] {
        handler(std::move(*held), to_storage_error(ec, lt::operation_t::file_read));
      });
    });
  }

  bool async_write(lt::storage_index_t index, lt::peer_request const& r, char const* bytes,
                   std::shared_ptr<lt::disk_observer> observer, std::function<void(lt::storage_error const&)> handler,
                   lt::disk_job_flags_t) override {
    const auto queue = at(index);
    const int piece = static_cast<int>(r.piece);
    auto& collected = queue->collected[piece];
    Queue::Block block;
    block.start = r.start;
    block.length = std::clamp(r.length, 0, block_bytes);
    block.bytes = blocks_.take();
    block.on_written = std::move(handler);
    const auto size = static_cast<std::size_t>(block.length);
    std::memcpy(block.bytes, bytes, size);
    moved_ += block.length;
    collected.blocks.push_back(std::move(block));
    collected.bytes += size;
    queue->collected_bytes += size;
    waiting_ += size;
    if (waiting_ >= most_waiting) {
      // Whoever is held back waits for other torrents' blocks, too.
      for (const auto& each : queues_)
        if (each) write_all(each);
    } else if (queue->collected_bytes >= torrent_collects) {
      write_all(queue);
    } else if (collected.bytes >= piece_collects) {
      write_piece(queue, piece);
    }
    if (waiting_ < most_waiting) return false;
    if (observer) held_back_.push_back(std::move(observer));
    return true;
  }

  void async_hash(
      lt::storage_index_t index, lt::piece_index_t piece, lt::span<lt::sha256_hash>, lt::disk_job_flags_t,
      std::function<void(lt::piece_index_t, lt::sha1_hash const&, lt::storage_error const&)> handler) override {
    Queue::Job job;
    job.kind = Queue::Job::Kind::hash;
    job.piece = static_cast<int>(piece);
    job.on_hashed = std::move(handler);
    const auto queue = at(index);
    write_piece(queue, job.piece);
    push(queue, std::move(job));
  }

  // Torrents here are BitTorrent v1 alone; what belongs to v2 or moves files is refused, never silently ignored.
  void async_hash2(
      lt::storage_index_t, lt::piece_index_t piece, int, lt::disk_job_flags_t,
      std::function<void(lt::piece_index_t, lt::sha256_hash const&, lt::storage_error const&)> handler) override {
    asio::post(io_, [piece, handler = std::move(handler)] { handler(piece, {}, unsupported()); });
  }
  void async_move_storage(
      lt::storage_index_t, std::string path, lt::move_flags_t,
      std::function<void(lt::status_t, std::string const&, lt::storage_error const&)> handler) override {
    asio::post(io_, [path = std::move(path), handler = std::move(handler)] {
      handler(lt::status_t::fatal_disk_error, path, unsupported());
    });
  }
  void async_rename_file(
      lt::storage_index_t, lt::file_index_t file, std::string name,
      std::function<void(std::string const&, lt::file_index_t, lt::storage_error const&)> handler) override {
    asio::post(io_,
               [file, name = std::move(name), handler = std::move(handler)] { handler(name, file, unsupported()); });
  }
  void async_delete_files(lt::storage_index_t, lt::remove_flags_t,
                          std::function<void(lt::storage_error const&)> handler) override {
    asio::post(io_, [handler = std::move(handler)] { handler(unsupported()); });
  }
  void async_set_file_priority(
      lt::storage_index_t, lt::aux::vector<lt::download_priority_t, lt::file_index_t> priorities,
      std::function<void(lt::storage_error const&, lt::aux::vector<lt::download_priority_t, lt::file_index_t>)> handler)
      override {
    asio::post(io_, [priorities = std::move(priorities), handler = std::move(handler)]() mutable {
      handler({}, std::move(priorities));
    });
  }

  void async_release_files(lt::storage_index_t index, std::function<void()> handler) override {
    fence(index, std::move(handler));
  }
  void async_stop_torrent(lt::storage_index_t index, std::function<void()> handler) override {
    fence(index, std::move(handler));
  }
  void async_check_files(lt::storage_index_t index, lt::add_torrent_params const*,
                         lt::aux::vector<std::string, lt::file_index_t>,
                         std::function<void(lt::status_t, lt::storage_error const&)> handler) override {
    // What is there was said in add_torrent_params::have_pieces, from verified and synced state.
    const bool known = at(index)->storage != nullptr;
    asio::post(io_, [known, handler = std::move(handler)] {
      if (known)
        handler(lt::status_t::no_error, {});
      else
        handler(lt::status_t::fatal_disk_error, unsupported());
    });
  }
  void async_clear_piece(lt::storage_index_t index, lt::piece_index_t piece,
                         std::function<void(lt::piece_index_t)> handler) override {
    Queue::Job job;
    job.kind = Queue::Job::Kind::clear;
    job.piece = static_cast<int>(piece);
    job.on_passed = [piece, handler = std::move(handler)] { handler(piece); };
    const auto queue = at(index);
    write_piece(queue, job.piece);
    push(queue, std::move(job));
  }

  void update_stats_counters(lt::counters&) const override {}
  std::vector<lt::open_file_state> get_status(lt::storage_index_t) const override { return {}; }
  void abort(bool wait) override {
    if (wait) pool_.join();
  }
  void submit_jobs() override {}
  void settings_updated() override {}

 private:
  static lt::storage_error unsupported() {
    return to_storage_error(std::make_error_code(std::errc::operation_not_supported), lt::operation_t::unknown);
  }
  QueuePtr at(lt::storage_index_t index) const { return queues_[static_cast<std::uint32_t>(index)]; }

  void fence(lt::storage_index_t index, std::function<void()> handler) {
    Queue::Job job;
    job.on_passed = handler ? std::move(handler) : [] {};
    const auto queue = at(index);
    write_all(queue);
    push(queue, std::move(job));
  }

  void write_piece(const QueuePtr& queue, int piece) {
    const auto at = queue->collected.find(piece);
    if (at == queue->collected.end()) return;
    Queue::Job job;
    job.kind = Queue::Job::Kind::write;
    job.piece = piece;
    job.blocks = std::move(at->second.blocks);
    queue->collected_bytes -= at->second.bytes;
    queue->collected.erase(at);
    push(queue, std::move(job));
  }
  void write_all(const QueuePtr& queue) {
    while (!queue->collected.empty()) write_piece(queue, queue->collected.begin()->first);
  }

  void push(const QueuePtr& queue, Queue::Job job) {
    {
      const std::lock_guard lock(queue->mutex);
      queue->jobs.push_back(std::move(job));
      for (const auto& block : queue->jobs.back().blocks) queue->queued_bytes += static_cast<std::size_t>(block.length);
      if (queue->workers >= disk_threads || (queue->workers > 0 && queue->queued_bytes < worker_takes)) return;
      ++queue->workers;
    }
    asio::post(pool_, [this, queue, guard = asio::make_work_guard(io_)] { work(queue); });
  }

  /// Writes blocks of a piece, those that follow one another together, and gives back their memory.
  std::error_code write_blocks(const Queue& queue, int piece, std::vector<Queue::Block>& blocks) {
    std::ranges::sort(blocks, {}, &Queue::Block::start);
    std::error_code ec;
    if (!queue.storage) ec = std::make_error_code(std::errc::invalid_argument);
    std::vector<std::span<const char>> run;
    for (std::size_t i = 0; i < blocks.size() && !ec;) {
      run.clear();
      const int start = blocks[i].start;
      int end = start;
      for (; i < blocks.size() && blocks[i].start == end && run.size() < Storage::best_at_once; ++i) {
        run.emplace_back(blocks[i].bytes, static_cast<std::size_t>(blocks[i].length));
        end += blocks[i].length;
      }
      ec = queue.storage->write(piece, start, run);
    }
    for (const auto& block : blocks) blocks_.free_disk_buffer(block.bytes);
    return ec;
  }

  /// On a pool thread: takes some of what waits, does it, and hands the results back in one go.
  void work(const QueuePtr& queue) {
    for (std::vector<Queue::Job> jobs;;) {
      {
        const std::lock_guard lock(queue->mutex);
        for (const auto& job : jobs)
          if (job.kind != Queue::Job::Kind::fence) queue->busy.erase(job.piece);
        jobs = queue->take();
        if (jobs.empty()) {
          // What waits for a piece that another works on is that one's to find.
          --queue->workers;
          return;
        }
      }
      std::vector<std::function<void()>> results;
      std::vector<int> to_disk;
      std::size_t written = 0;
      for (auto& job : jobs) {
        switch (job.kind) {
          case Queue::Job::Kind::write: {
            for (auto& block : job.blocks) written += static_cast<std::size_t>(block.length);
            results.push_back([ec = write_blocks(*queue, job.piece, job.blocks), blocks = std::move(job.blocks)] {
              for (const auto& block : blocks) block.on_written(to_storage_error(ec, lt::operation_t::file_write));
            });
            break;
          }
          case Queue::Job::Kind::hash: {
            lt::sha1_hash hash;
            std::error_code ec = std::make_error_code(std::errc::invalid_argument);
            if (queue->storage) ec = queue->storage->hash(job.piece, hash);
            if (!ec && queue->storage->layout().length_of(job.piece) >= worth_writeback &&
                hash == queue->storage->layout().hashes[static_cast<std::size_t>(job.piece)])
              to_disk.push_back(job.piece);
            results.push_back([ec, hash, piece = job.piece, handler = std::move(job.on_hashed)] {
              handler(lt::piece_index_t(piece), hash, to_storage_error(ec, lt::operation_t::file_read));
            });
            break;
          }
          case Queue::Job::Kind::clear:
            if (queue->storage) queue->storage->clear(job.piece);
            results.push_back(std::move(job.on_passed));
            break;
          case Queue::Job::Kind::fence:
            results.push_back(std::move(job.on_passed));
            break;
        }
      }
      asio::post(io_, [this, written, results = std::move(results)] {
        for (const auto& result : results) result();
        waiting_ -= written;
        if (waiting_ >= enough_room || held_back_.empty()) return;
        for (const auto& observer : std::exchange(held_back_, {})) observer->on_disk();
      });
      if (!to_disk.empty())
        asio::post(writeback_, [storage = queue->storage, to_disk = std::move(to_disk)] {
          for (const int piece : to_disk) storage->begin_writeback(piece);
        });
    }
  }

  lt::io_context& io_;
  std::shared_ptr<StorageRegistry> registry_;
  std::int64_t& moved_;
  BlockPool blocks_;
  // Touched on the network thread alone:
  std::vector<QueuePtr> queues_;
  std::size_t waiting_ = 0;
  std::vector<std::shared_ptr<lt::disk_observer>> held_back_;
  asio::thread_pool pool_;
  asio::thread_pool writeback_{1};  ///< nobody waits for it, and it may wait for a slow disk
};

}  // namespace

void StorageRegistry::put(const lt::sha1_hash& infohash, StoragePtr storage) {
  const std::lock_guard lock(mutex_);
  storages_[infohash] = std::move(storage);
}

StoragePtr StorageRegistry::find(const lt::sha1_hash& infohash) const {
  const std::lock_guard lock(mutex_);
  const auto it = storages_.find(infohash);
  return it == storages_.end() ? nullptr : it->second;
}

void StorageRegistry::remove(const lt::sha1_hash& infohash) {
  const std::lock_guard lock(mutex_);
  storages_.erase(infohash);
}

lt::disk_io_constructor_type mesh_disk_constructor(std::shared_ptr<StorageRegistry> registry, std::int64_t& moved) {
  return [registry = std::move(registry), &moved](lt::io_context& io, lt::settings_interface const&,
                                                  lt::counters&) -> std::unique_ptr<lt::disk_interface> {
    return std::make_unique<MeshDisk>(io, registry, moved);
  };
}

}  // namespace mesh
