#include "get/packed_files.h"

#include <algorithm>
#include <utility>

#include "core/format.h"
#include "wire/while_checking.h"

namespace mesh {
namespace {

constexpr auto first_tracker_limit = std::chrono::milliseconds(100);
constexpr auto prepare_limit = std::chrono::seconds(35);  // the tracker answers before
constexpr auto slow_answer = std::chrono::seconds(5);
constexpr std::size_t packs_at_once = 2;
constexpr std::size_t read_bytes = 256 * 1024;
constexpr std::size_t take_bytes = std::size_t{2} << 20;
constexpr std::size_t take_files = 256;

}  // namespace

Task<std::vector<Planned*>> PackedFiles::get(GetTaskPtr task, std::vector<Planned*> files, std::size_t most_at_once,
                                             Take take) {
  const auto rest = std::make_shared<Rest>();
  // Swarms have no limit for one of the gets that they serve.
  if (task->request.max_down > 0 || task->request.max_up > 0) co_return files;
  const auto at_once = std::min(packs_at_once, most_at_once);
  std::vector<PackFile> list;
  list.reserve(files.size());
  for (const auto* planned : files) {
    const auto& wanted = planned->file.entry;
    list.push_back({wanted.path, wanted.size, wanted.mtime, wanted.id});
  }
  Together work(workers_.loop());
  std::size_t done = 0;
  const auto keep = [&](std::size_t end) {
    rest->files.insert(rest->files.end(), files.begin() + static_cast<std::ptrdiff_t>(done),
                       files.begin() + static_cast<std::ptrdiff_t>(end));
    done = end;
  };
  for (const auto& [begin, end] : cut_packs(list)) {
    co_await work.fewer_than(at_once);
    if (task->cancelled || rest->gave_up) break;
    keep(begin);
    done = end;
    std::vector<Planned*> part(files.begin() + static_cast<std::ptrdiff_t>(begin),
                               files.begin() + static_cast<std::ptrdiff_t>(end));
    std::vector<PackFile> part_list(list.begin() + static_cast<std::ptrdiff_t>(begin),
                                    list.begin() + static_cast<std::ptrdiff_t>(end));
    work.add(bring(task, std::move(part), std::move(part_list), take, rest));
  }
  keep(files.size());
  co_await work.all();
  co_return std::move(rest->files);
}

Task<void> PackedFiles::bring(GetTaskPtr task, std::vector<Planned*> files, std::vector<PackFile> list, Take take,
                              std::shared_ptr<Rest> rest) {
  const auto name = pack_name(list);
  try {
    const Pack pack = co_await prepare(task, list, rest);
    co_await read(task, files, std::move(list), pack, take);
  } catch (const std::exception& error) {
    for (auto* planned : files) {
      planned->pack.reset();
      planned->from_getter = false;
    }
    if (!task->cancelled)
      log_(printable(name) + ": " + std::to_string(files.size()) +
           " small files do not come as a pack: " + error.what());
  }
  rest->files.insert(rest->files.end(), files.begin(), files.end());
}

/// Asked by its id alone first: of those who want the same, one tells what is in it. Where nobody answers in time, the
/// rest of this get goes without packs.
Task<Pack> PackedFiles::prepare(GetTaskPtr task, std::vector<PackFile> list, std::shared_ptr<Rest> rest) {
  auto ask = [](TrackerLinks* links, std::vector<PackFile> files) -> Task<Pack> {
    PreparePack asked;
    asked.pack = pack_id(files);
    Pack pack = co_await links->ask(asked, first_tracker_limit, prepare_limit);
    if (pack.is_known) co_return pack;
    asked.files = std::move(files);
    co_return co_await links->ask(asked, first_tracker_limit, prepare_limit);
  };
  std::function<void()> check = [this, task] {
    if (task->cancelled || workers_.stopping()) throw Error(Status::interrupted, "stopped");
  };
  const auto begun = std::chrono::steady_clock::now();
  std::optional<Error> trouble;
  auto answer = ask(&links_, std::move(list));
  try {
    co_return co_await while_checking(workers_.loop(), std::move(answer), std::move(check));
  } catch (const Error& error) {
    trouble = error;
  }
  if (std::chrono::steady_clock::now() - begun > slow_answer) rest->gave_up = true;
  throw Error(*trouble);
}

/// Takes what comes out of `files`.
Task<void> PackedFiles::read(GetTaskPtr task, std::vector<Planned*>& files, std::vector<PackFile> list, Pack pack,
                             Take take) {
  if (!pack.is_known || !are_indices(pack.left_out, list.size()) || pack.torrent.size != pack_size(list, pack.left_out))
    throw Error(Status::failed, "the tracker told no sensible pack");
  std::vector<Planned*> left_out;
  std::vector<Planned*> coming;
  for (std::size_t i = 0, at = 0; i < files.size(); ++i) {
    const bool is_out = at < pack.left_out.size() && pack.left_out[at] == i;
    (is_out ? left_out : coming).push_back(files[i]);
    at += is_out ? 1 : 0;
  }
  FileEntry wanted;
  wanted.path = pack_name(list);
  wanted.size = pack.torrent.size;
  wanted.id = pack.torrent.id;
  const auto progress = std::make_shared<PackProgress>();
  progress->id = wanted.id;
  task->packs.push_back(progress);
  const std::shared_ptr<void> over(progress.get(), [task, progress](void*) { std::erase(task->packs, progress); });
  const auto counters = std::make_shared<Received>();
  std::size_t taken = 0;
  const auto is_stopped = [task, &coming, &taken] {
    return task->cancelled ||
           (!task->except.empty() && std::all_of(coming.begin() + static_cast<std::ptrdiff_t>(taken), coming.end(),
                                                 [&](const Planned* p) { return task->excludes(p->file.entry.path); }));
  };
  // All that the get has yet to bring is to find room.
  const auto beside = std::max(wanted.size, task->total_bytes - task->settled_bytes);
  const auto reader = spools_.open_pack(wanted, pack.torrent, beside, is_stopped, counters);
  std::string data;
  std::int64_t offset = 0;
  std::int64_t from_getters = 0;
  while (taken < coming.size()) {
    // As much as is there, up to a handful of files.
    std::size_t count = 0;
    std::size_t bytes = 0;
    while (taken + count < coming.size() && count < take_files && bytes < take_bytes) {
      const auto size = static_cast<std::size_t>(coming[taken + count]->file.entry.size);
      while (data.size() < bytes + size) {
        const auto before = data.size();
        data.resize(before + read_bytes);
        const std::span<char> room(data.data() + before, read_bytes);
        const auto n = co_await reader->read(offset, room);
        data.resize(before + n);
        offset += static_cast<std::int64_t>(n);
        if (n == 0) throw Error(Status::failed, "a pack that ends early");
      }
      bytes += size;
      ++count;
    }
    std::vector<Planned*> some(coming.begin() + static_cast<std::ptrdiff_t>(taken),
                               coming.begin() + static_cast<std::ptrdiff_t>(taken + count));
    Fetched got;
    std::size_t at = 0;
    for (auto* planned : some) {
      auto& file = got.files.emplace_back();
      const auto size = static_cast<std::size_t>(planned->file.entry.size);
      file.data = data.substr(at, size);
      at += size;
      planned->pack = progress;
      planned->from_getter = from_getters + planned->file.entry.size <= counters->from_getters;
      if (planned->from_getter) from_getters += planned->file.entry.size;
    }
    data.erase(0, at);
    taken += count;
    co_await take(std::move(some), std::move(got));
    files = left_out;
    files.insert(files.end(), coming.begin() + static_cast<std::ptrdiff_t>(taken), coming.end());
  }
}

}  // namespace mesh
