#include "get/small_files.h"

#include <sys/resource.h>

#include <algorithm>
#include <random>
#include <set>

#include "core/format.h"
#include "core/merkle.h"
#include "core/qcow2.h"
#include "wire/endpoint.h"
#include "wire/mesh_key.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr auto fetch_limit = std::chrono::minutes(10);  // a lost node ends it at once; a slow one may be slow
constexpr auto fetch_limit_of_many = seconds(8);        // where others have the same
constexpr std::size_t active_batches = 4;
constexpr std::size_t batch_files = 256;
constexpr std::int64_t batch_bytes = 2 << 20;
constexpr std::size_t most_unplaced = 4000;  // each has a descriptor open
constexpr int most_attempts = 5;
constexpr int few_tries = 2;
constexpr std::size_t active_questions = 16;

}  // namespace

/// One call of `get`.
struct SmallFiles::Run {
  explicit Run(asio::io_context& io) : placed(io) {}
  GetTaskPtr task;
  Nodes nodes;
  Finish finish;
  bool many = false;                                     ///< worth asking who has them by now
  std::map<std::uint32_t, std::int64_t> taken;           ///< bytes asked of each node
  std::set<std::uint32_t> answered;                      ///< nodes whose large answers arrive
  std::set<std::uint32_t> silent;                        ///< nodes that did not answer in time: the last to be asked
  std::vector<std::pair<Planned*, std::string>> failed;  ///< to be asked for again
  std::vector<Installer::Small> written;
  std::vector<Planned*> written_for;
  std::optional<Error> lost;  ///< no tracker can be asked
  bool placing = false;
  bool is_full = false;               ///< the disk was
  std::set<std::string> directories;  ///< in which something was placed
  Event placed;
};

SmallFiles::SmallFiles(Workers& workers, Log log, Library& library, TrackerLinks& links, NodeChannels& channels,
                       Spools& spools, Pacer download, const LocalRules& rules)
    : workers_(workers),
      log_(std::move(log)),
      library_(library),
      links_(links),
      channels_(channels),
      packed_(workers, links, spools, log_),
      small_down_(std::move(download)),
      rules_(rules) {}

Task<void> SmallFiles::wait_until_placed(std::shared_ptr<Run> run) {
  while (run->task->unplaced > 0) co_await run->placed.wait_for(milliseconds(100));
}

Task<void> SmallFiles::sync_names(std::shared_ptr<Run> run) {
  const auto sync = [this, run] { library_.installer().sync_names(run->directories); };
  co_await run_on(workers_.brief(), sync);
}

Task<std::vector<Planned*>> SmallFiles::get_packed(GetTaskPtr task, std::vector<Planned*> files,
                                                   std::size_t most_at_once, Finish finish) {
  const auto run = std::make_shared<Run>(workers_.loop());
  run->task = task;
  run->finish = std::move(finish);
  const PackedFiles::Take take_packed = [this, run](std::vector<Planned*> some, Fetched got) {
    static const std::string maker = "who made the pack";
    return take(run, maker, std::move(some), std::move(got));
  };
  auto rest = co_await packed_.get(task, std::move(files), most_at_once, take_packed);
  co_await wait_until_placed(run);
  for (const auto& [planned, why] : run->failed) {
    planned->pack.reset();
    planned->from_getter = false;
    rest.push_back(planned);
  }
  std::ranges::sort(rest, {}, [](const Planned* planned) -> const std::string& { return planned->file.entry.path; });
  try {
    if (!run->directories.empty()) co_await sync_names(run);
  } catch (const std::exception& error) {
    log_(failure(std::string("directories cannot be synced: ") + error.what()));
  }
  co_return rest;
}

Task<void> SmallFiles::get(GetTaskPtr task, Nodes nodes, std::vector<Planned*> files, Finish finish, Again again) {
  const auto run = std::make_shared<Run>(workers_.loop());
  run->task = task;
  run->nodes = std::move(nodes);
  run->finish = std::move(finish);
  std::mt19937 random{std::random_device{}()};
  for (int attempt = 0; !files.empty(); ++attempt) {
    // Neighbours travel together, so that a batch fills few directories; which batch comes when is each node's own
    // chance, so that nodes that began together have different ones to offer.
    std::vector<std::vector<Planned*>> batches(1);
    std::int64_t bytes = 0;
    for (auto* planned : files) {
      if (batches.back().size() >= batch_files || bytes >= batch_bytes) {
        batches.emplace_back();
        bytes = 0;
      }
      batches.back().push_back(planned);
      bytes += planned->file.entry.size;
    }
    files.clear();
    run->many = batches.size() > 1;
    std::ranges::shuffle(batches, random);
    Together work(workers_.loop());
    for (auto& batch : batches) {
      if (task->cancelled) break;
      co_await work.fewer_than(active_batches);
      work.add(fetch(run, std::move(batch)));
    }
    co_await work.all();
    co_await wait_until_placed(run);

    // What could not be had may have moved or changed: ask again what it is now.
    const auto more = std::make_shared<std::vector<Planned*>>();
    Together questions(workers_.loop());
    for (auto& [planned, why] : std::exchange(run->failed, {})) {
      if (task->excludes(planned->file.entry.path)) continue;
      if (attempt >= most_attempts) {
        run->finish(*planned, Status::failed, printable(planned->file.entry.path) + ": " + why, false);
        continue;
      }
      co_await questions.fewer_than(active_questions);
      questions.add(ask_again(run, planned, why, again, more));
    }
    co_await questions.all();
    files = std::move(*more);
    if (!files.empty() && !task->cancelled) co_await sleep_for(milliseconds(200 * (attempt + 1)));
  }
  co_await sync_names(run);
}

Task<void> SmallFiles::ask_again(std::shared_ptr<Run> run, Planned* planned, std::string why, Again again,
                                 std::shared_ptr<std::vector<Planned*>> files) {
  std::optional<Error> trouble = run->lost;
  if (!trouble) {
    try {
      const bool is_small = co_await again(*planned, run->nodes);
      if (is_small)
        files->push_back(planned);
      else
        run->finish(*planned, Status::failed, printable(planned->file.entry.path) + ": " + why, false);
    } catch (const Error& error) {
      trouble = error;
    } catch (const std::exception& error) {
      trouble = Error(Status::failed, printable(planned->file.entry.path) + ": " + error.what());
    }
  }
  if (!trouble) co_return;
  if (trouble->status() == Status::unreachable) run->lost = trouble;
  run->finish(*planned, trouble->status(), trouble->what(), false);
}

Task<void> SmallFiles::fetch(std::shared_ptr<Run> run, std::vector<Planned*> batch) {
  std::erase_if(batch, [&](const Planned* p) { return run->task->excludes(p->file.entry.path); });
  if (batch.empty()) co_return;
  if (run->many) {
    try {
      const auto tracker = co_await links_.first(milliseconds(100));
      Locate question;
      for (const auto* planned : batch) question.files.push_back(planned->file.entry);
      Located reply = co_await tracker->request(question, seconds(10));
      for (auto& node : reply.nodes) run->nodes[node.key] = std::move(node);
      for (std::size_t i = 0; i < reply.files.size() && i < batch.size(); ++i)
        if (!reply.files[i].nodes.empty()) batch[i]->file.holders = std::move(reply.files[i].nodes);
    } catch (const Error&) {
      // Those that were known a moment ago have to do.
    }
  }
  // From the holder that has given the least so far.
  std::map<std::uint32_t, std::vector<Planned*>> by_node;
  for (auto* planned : batch) {
    const auto& holders = planned->file.holders;
    const auto best = std::ranges::min_element(
        holders, {}, [&](std::uint32_t node) { return std::pair(run->silent.contains(node), run->taken[node]); });
    by_node[best == holders.end() ? 0 : *best].push_back(planned);
  }
  for (auto& [node, files] : by_node) {
    for (const auto* planned : files) run->taken[node] += planned->file.entry.size + 512;
    const auto it = run->nodes.find(node);
    if (it == run->nodes.end()) {
      for (auto* planned : files) run->failed.emplace_back(planned, "no node holds it any more");
      continue;
    }
    const NodeRef ref = it->second;
    co_await fetch_from(run, ref, files);
  }
}

Task<void> SmallFiles::fetch_from(std::shared_ptr<Run> run, NodeRef node, std::vector<Planned*> files) {
  std::string trouble;
  try {
    const auto channel = co_await channels_.to(node);
    const auto used = channels_.use(channel);
    while (!files.empty()) {
      std::erase_if(files, [&](const Planned* p) { return run->task->excludes(p->file.entry.path); });
      if (files.empty()) co_return;
      Fetch question;
      const auto most = std::min(small_down_.handful(batch_bytes), run->task->pacer.handful(batch_bytes));
      std::int64_t bytes = 0;
      for (const auto* planned : files) {
        if (bytes > 0 && bytes + planned->file.entry.size > most) break;
        question.files.push_back(planned->file.entry);
        bytes += planned->file.entry.size;
      }
      const std::function<bool()> unwanted = [run] { return run->task->cancelled.load(); };
      co_await small_down_.spend(bytes, unwanted);
      co_await run->task->pacer.spend(bytes, unwanted);
      if (run->task->cancelled) co_return;
      // One whose small answers pass and no others (a link of a smaller MTU than it says) is not waited for.
      const bool others = std::ranges::all_of(files, [&](const Planned* planned) {
        return std::ranges::any_of(planned->file.holders, [&](std::uint32_t holder) {
          return holder != node.key && !run->silent.contains(holder);
        });
      });
      const auto limit =
          others && !run->answered.contains(node.key) ? milliseconds(fetch_limit_of_many) : milliseconds(fetch_limit);
      const auto asked = std::chrono::steady_clock::now();
      std::optional<Error> failed;
      Fetched got;
      try {
        got = co_await channel->request(question, limit);
      } catch (const Error& error) {
        failed = error;
      }
      if (failed && std::chrono::steady_clock::now() - asked >= limit) run->silent.insert(node.key);
      if (failed) throw Error(*failed);
      run->answered.insert(node.key);
      if (got.files.empty() || got.files.size() > question.files.size())
        throw Error(Status::failed, node.name + ": sent no sensible answer");
      const auto end = files.begin() + static_cast<std::ptrdiff_t>(got.files.size());
      std::vector<Planned*> answered(files.begin(), end);
      files.erase(files.begin(), end);
      co_await take(run, node.name, std::move(answered), std::move(got));
    }
  } catch (const std::exception& error) {
    trouble = error.what();
  }
  for (auto* planned : files) run->failed.emplace_back(planned, trouble);
}

/// Checks what came, and writes it down; its names come with the next `place_all`.
Task<void> SmallFiles::take(std::shared_ptr<Run> run, const std::string& node, std::vector<Planned*> asked,
                            Fetched got) {
  struct Sums {
    ContentId id;
    std::string sha256;  ///< where one was asked for
  };
  const auto hash = [&asked, &got] {
    std::vector<Sums> out;
    for (std::size_t i = 0; i < asked.size(); ++i) {
      const auto& data = got.files[i].data;
      out.push_back({content_id_of_bytes(data), asked[i]->sha256.empty() ? std::string() : sha256(data).hex()});
    }
    return out;
  };
  const auto sums = co_await run_on(workers_.brief(), hash);
  std::vector<Installer::Small> files;
  std::vector<Planned*> planned_for;
  for (std::size_t i = 0; i < asked.size(); ++i) {
    auto* planned = asked[i];
    auto& file = got.files[i];
    const auto& wanted = planned->file.entry;
    const auto& before = planned->before;
    // Of a pack, nobody says it of each file.
    const auto& id = sums[i].id;
    const bool is_right = (!file.id.is_set() || file.id == id) && (!wanted.id.is_set() || wanted.id == id);
    file.id = id;
    if (run->task->excludes(wanted.path)) {
      // Deleted or cancelled while it was on its way.
    } else if (!file.error.empty()) {
      run->failed.emplace_back(planned, "on " + node + ": " + file.error);
    } else if (static_cast<std::int64_t>(file.data.size()) != wanted.size || !is_right) {
      run->failed.emplace_back(planned, node + " sent other bytes than it said");
      log_(warning(printable(wanted.path) + ": " + node + " sent other bytes than it said")
               .of("wrong-bytes", wanted.path, wanted.size)
               .by(node));
    } else if (const auto& sum = sums[i].sha256; sum != planned->sha256) {
      run->finish(*planned, Status::failed,
                  printable(wanted.path) + ": the mesh's copy has SHA-256 " + sum + ", not " + planned->sha256 +
                      " (--refresh asks the origin for another one)",
                  false);
    } else if (before.verdict == LocalState::Verdict::unknown && before.id == file.id) {
      run->finish(*planned, Status::ok, {}, true);
    } else if (before.verdict == LocalState::Verdict::unknown && !run->task->request.force && !before.replaceable) {
      run->finish(*planned, Status::failed, rules_.conflict(wanted, before, planned->file.holders), true);
    } else {
      planned->no_image = !find_backing_name(file.data);
      Installer::Small small;
      small.wanted = wanted;
      small.before = before;
      small.data = std::move(file.data);
      small.id = file.id;
      files.push_back(std::move(small));
      planned_for.push_back(planned);
    }
  }
  static const std::size_t descriptors = [] {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    return std::min<std::size_t>(most_unplaced, limit.rlim_cur / 4);
  }();
  auto& unplaced = run->task->unplaced;
  while (unplaced + files.size() > descriptors && unplaced > 0) co_await run->placed.wait_for(milliseconds(100));
  unplaced += files.size();
  const auto held = std::make_shared<std::vector<Installer::Small>>(std::move(files));
  const auto write = [this, held] { library_.installer().write_small(*held); };
  co_await run_on(workers_.brief(), write);
  const bool is_packed = !asked.empty() && asked.front()->pack != nullptr;
  const bool is_first =
      !std::exchange(run->is_full, run->is_full || std::ranges::any_of(*held, &Installer::Small::no_room));
  if (run->is_full && is_first) packed_.make_room();
  // A get that nobody waits for, or that was told to wait, waits for room; any one waits for what was made now.
  for (int tries = 0;
       std::ranges::any_of(*held, &Installer::Small::no_room) && !run->task->cancelled && !workers_.stopping() &&
       ((is_first && tries < few_tries) || (run->task->waits_for_room() && !is_packed));
       ++tries) {
    run->task->enter(GetTask::Phase::paused,
                     "paused: " + std::ranges::find_if(*held, &Installer::Small::no_room)->error);
    co_await sleep_for(milliseconds(500));
    std::vector<Installer::Small> rest;
    std::vector<std::size_t> places;
    for (std::size_t i = 0; i < held->size(); ++i) {
      if (!(*held)[i].no_room) continue;
      (*held)[i].no_room = false;
      if (run->task->excludes((*held)[i].wanted.path)) continue;  // with its error
      (*held)[i].error.clear();
      rest.push_back(std::move((*held)[i]));
      places.push_back(i);
    }
    const auto others = std::make_shared<std::vector<Installer::Small>>(std::move(rest));
    const auto write_again = [this, others] { library_.installer().write_small(*others); };
    co_await run_on(workers_.brief(), write_again);
    for (std::size_t i = 0; i < places.size(); ++i) (*held)[places[i]] = std::move((*others)[i]);
    run->task->enter(GetTask::Phase::none);
  }
  for (std::size_t i = 0; i < held->size(); ++i) {
    auto& small = (*held)[i];
    if (!small.error.empty() && small.no_room && is_packed) {
      // When the pack is let go, there is more.
      --unplaced;
      run->failed.emplace_back(planned_for[i], small.error);
      continue;
    }
    if (!small.error.empty()) {
      --unplaced;
      if (!run->task->excludes(small.wanted.path)) run->finish(*planned_for[i], Status::failed, small.error, false);
      continue;
    }
    run->written.push_back(std::move(small));
    run->written_for.push_back(planned_for[i]);
  }
  run->placed.notify();
  if (!run->written.empty() && !run->placing) {
    run->placing = true;
    spawn(workers_.loop(), place_all(run));
  }
}

/// Gives names to everything that is written, again and again until nothing is: while one lot is synced the next one
/// gathers.
Task<void> SmallFiles::place_all(std::shared_ptr<Run> run) {
  while (!run->written.empty()) {
    const auto lot = std::make_shared<std::vector<Installer::Small>>(std::exchange(run->written, {}));
    const auto lot_for = std::exchange(run->written_for, {});
    for (auto& small : *lot)
      if (run->task->excludes(small.wanted.path)) small.error = "is not wanted any more";
    const auto place = [this, lot] {
      auto out = library_.installer().place_small(*lot);
      lot->clear();
      return out;
    };
    const auto placed = co_await run_on(workers_.brief(), place);
    std::vector<LocalEntry> here;
    for (std::size_t i = 0; i < placed.size(); ++i) {
      if (placed[i].entry) run->directories.emplace(parent_path(placed[i].entry->entry.path));
      if (placed[i].entry) {
        here.push_back(*placed[i].entry);
        ++arrived_;
        arrived_bytes_ += placed[i].entry->entry.size;
      }
      if (placed[i].entry || !run->task->excludes(lot_for[i]->file.entry.path))
        run->finish(*lot_for[i], placed[i].entry ? Status::ok : Status::failed, placed[i].error, false);
    }
    library_.put(here);
    run->task->unplaced -= placed.size();
    run->placed.notify();
  }
  run->placing = false;
}

Task<std::string> SmallFiles::fetch_one(FileEntry wanted, std::vector<std::uint32_t> holders, Nodes nodes) {
  std::string trouble = "no node holds it any more";
  auto status = Status::unreachable;  // whoever has it may be coming back
  for (const auto key : holders) {
    const auto it = nodes.find(key);
    if (it == nodes.end()) continue;
    try {
      const NodeRef node = it->second;
      const auto channel = co_await channels_.to(node);
      const auto used = channels_.use(channel);
      Fetch question;
      question.files.push_back(wanted);
      const auto limit = key == holders.back() ? milliseconds(fetch_limit) : milliseconds(fetch_limit_of_many);
      Fetched got = co_await channel->request(question, limit);
      if (got.files.size() != 1) throw Error(Status::failed, node.name + ": sent no sensible answer");
      auto& file = got.files.front();
      if (!file.error.empty()) throw Error(Status::failed, "on " + node.name + ": " + file.error);
      if (static_cast<std::int64_t>(file.data.size()) != wanted.size || content_id_of_bytes(file.data) != file.id ||
          (wanted.id.is_set() && wanted.id != file.id))
        throw Error(Status::failed, node.name + " sent other bytes than it said");
      co_return std::move(file.data);
    } catch (const Error& error) {
      trouble = error.what();
      if (error.status() != Status::unreachable) status = Status::failed;
    }
  }
  throw Error(status, printable(wanted.path) + ": " + trouble);
}

}  // namespace mesh
