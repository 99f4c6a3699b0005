#include "serve/pack_maker.h"

#include <fcntl.h>

#include <algorithm>
#include <system_error>
#include <thread>

#include "core/format.h"
#include "core/merkle.h"
#include "library/maker.h"
#include "serve/listed_file.h"

namespace mesh {
namespace {

constexpr std::size_t most_at_once = 8;  // two are made at a time, the others wait for a thread
constexpr std::size_t write_bytes = std::size_t{1} << 20;

void append_to(int fd, std::string& data) {
  for (std::string_view rest = data; !rest.empty();) {
    const auto n = ::write(fd, rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw std::system_error(errno, std::generic_category());
    rest.remove_prefix(static_cast<std::size_t>(n));
  }
  data.clear();
}

/// The files' bytes in one without a name; what cannot be had is left out, unless that must not be. Blocks.
struct Gathered {
  Fd file;
  HashedFile hashed;
  std::vector<std::uint32_t> left_out;
};
Gathered gather(const Library& library, const MakePack& asked, const std::atomic<bool>& stop) {
  Gathered out;
  const Fd file = library.make_nameless(0);
  std::string data;
  auto skipped = asked.left_out.begin();
  for (std::uint32_t i = 0; i < asked.files.size(); ++i) {
    if (stop) throw Error(Status::unreachable, "the node is shutting down");
    if (skipped != asked.left_out.end() && *skipped == i) {
      out.left_out.push_back(i);
      ++skipped;
      continue;
    }
    const auto& one = asked.files[i];
    try {
      const auto before = data.size();
      read_listed(open_listed(library.gate(), one.path, one.size, one.mtime), data);
      if (one.id.is_set() && content_id_of_bytes(std::string_view(data).substr(before)) != one.id) {
        data.resize(before);
        throw Error(Status::failed, "it has changed since it was hashed");
      }
    } catch (const Error& error) {
      if (asked.exactly) throw Error(Status::failed, printable(one.path) + ": " + error.what());
      out.left_out.push_back(i);
    }
    if (data.size() >= write_bytes) append_to(file.get(), data);
  }
  append_to(file.get(), data);
  const auto size = pack_size(asked.files, out.left_out);
  if (size == 0) throw Error(Status::failed, "none of the files can be had");
  out.hashed = hash_file(file.get(), size, std::max(1U, std::thread::hardware_concurrency()), stop);
  // What is served is open for reading alone.
  out.file = Fd(::open(("/proc/self/fd/" + std::to_string(file.get())).c_str(), O_RDONLY | O_CLOEXEC));
  if (!out.file) throw std::system_error(errno, std::generic_category());
  return out;
}

}  // namespace

void PackMaker::serve(Handlers& handlers) {
  handlers.on<MakePack>([this](ChannelPtr, MakePack asked) { return make(std::move(asked)); });
}

Task<Pack> PackMaker::make(MakePack asked) {
  if (const auto fault = pack_fault(asked.files); !fault.empty())
    throw Error(Status::failed, "no sensible pack: " + fault);
  if (!are_indices(asked.left_out, asked.files.size())) throw Error(Status::failed, "no sensible pack");
  const auto id = pack_id(asked.files);
  Key key(id, asked.left_out);
  std::function<Task<Pack>()> work = [this, id, asked = std::move(asked)] { return make_now(id, asked); };
  co_return co_await making_.run(std::move(key), std::move(work));
}

Task<Pack> PackMaker::make_now(PackId id, MakePack asked) {
  std::erase_if(made_, [this](const auto& pair) { return session_.find(pair.second.id) == nullptr; });
  Pack out;
  if (const auto it = made_.find({id, asked.left_out}); it != made_.end()) {
    const auto loaded = session_.find(it->second.id);
    loaded->last_needed = SwarmTorrent::Clock::now();
    out.torrent = to_torrent(*loaded);
    out.left_out = it->second.left_out;
    if (!asked.exactly || out.left_out == asked.left_out) co_return out;
  }
  const auto size = pack_size(asked.files, asked.left_out);
  const auto most = most_pack_bytes - making_bytes_ - size;
  if (making_count_ >= most_at_once || session_.shrink_packs(most, false) > most)
    throw Error(Status::failed, "makes and serves as many packs as it may");
  const auto reserved = std::make_shared<Room::Reservation>(room_);
  // As much again stays free.
  if (2 * size > room_.free_bytes() - reserved->others()) throw Error(Status::failed, "has no room for a pack");
  making_bytes_ += size;
  ++making_count_;
  const std::shared_ptr<void> over(this, [this, size](void*) {
    making_bytes_ -= size;
    --making_count_;
  });
  reserved->set(size);
  const auto work = [this, asked] { return std::make_shared<Gathered>(gather(library_, asked, workers_.stopping())); };
  std::shared_ptr<Gathered> made;
  std::string trouble;
  try {
    made = co_await run_on(workers_.reading(), work);
  } catch (const std::system_error& error) {
    trouble = error.code().message();
  }
  if (!made) throw Error(Status::failed, "cannot write a pack: " + trouble);
  Storage::Watch watch;
  watch.stamp = stamp_now(made->file.get());
  const MeshKey* key = key_of(made->hashed, asked.infohash, keys_);
  const SwarmSpec torrent = make_torrent(made->hashed, key);
  const auto storage = std::make_shared<Storage>(made->hashed.layout, std::move(made->file), std::move(watch));
  const auto loaded = co_await session_.load(torrent, key, storage, Role::pack);
  if (loaded->path.empty()) loaded->path = pack_name(asked.files);
  made_[{id, asked.left_out}] = {torrent.id, made->left_out};
  out.torrent = to_torrent(*loaded);
  out.left_out = made->left_out;
  co_return out;
}

}  // namespace mesh
