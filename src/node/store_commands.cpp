#include "node/store_commands.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <system_error>
#include <thread>

#include "core/format.h"
#include "core/glob.h"
#include "core/mesh_path.h"
#include "wire/flow.h"

namespace mesh {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

constexpr const char* md5_of_nothing = "d41d8cd98f00b204e9800998ecf8427e";
constexpr int most_looked_at = 100;  // of a page's objects, of which the listing may not know the size
constexpr auto tell_every = milliseconds(300);

FileStamp stamp_of_open(int fd) {
  struct stat s {};
  if (::fstat(fd, &s) != 0) throw std::system_error(errno, std::generic_category());
  return stamp_of(s);
}

json to_json(const FileStamp& stamp) { return {stamp.device, stamp.inode, stamp.size, stamp.mtime}; }

}  // namespace

/// One put, which several commands may wait for: the one that was cut off, and the same asked again.
struct StoreCommands::Putting {
  std::vector<std::weak_ptr<Channel>> askers;  ///< of the loop
  std::atomic<bool> unwanted = false;
  std::atomic<std::int64_t> done = 0;
  std::atomic<std::int64_t> size = 0;
  bool over = false;
};

Url StoreCommands::url_of(const std::string& text) const {
  auto url = parse_url(text, options_.url_ignore);
  if (!url.is_object()) throw Error(Status::usage, printable(url.shown) + ": is no s3:// or swift:// URL");
  if (!stores_) throw Error(Status::usage, printable(url.shown) + ": this node has no stores");
  url.set_store(stores_->name_of(url));
  return url;
}

ObjectStorePtr StoreCommands::store_of(const Url& url) const {
  if (auto store = stores_->find(url)) return store;
  throw Error(Status::usage,
              printable(url.shown) + ": this node has no store of that name ([store.NAME] in its mesh.conf)");
}

void StoreCommands::check_writer(const ChannelPtr& channel, const std::string& url) const {
  const auto& allowed = options_.control_allow;
  if (channel && (channel->is_of_own_user() || std::ranges::find(allowed, "store-write") != allowed.end())) return;
  throw Error(Status::refused, printable(url) +
                                   ": the node writes into stores for its own user and root alone "
                                   "(control-allow = [\"store-write\"] in its mesh.conf lets others)");
}

void StoreCommands::serve(Handlers& handlers) {
  handlers.on<ObjectsAsk>([this](ChannelPtr, ObjectsAsk asked) { return list(std::move(asked)); });
  handlers.on<Put>([this](ChannelPtr channel, Put asked) { return put(std::move(channel), std::move(asked)); });
  handlers.on<ObjectDelete>([this](ChannelPtr channel, ObjectDelete asked) -> Task<ObjectDeleted> {
    check_writer(channel, asked.url);
    std::function<Task<ObjectDeleted>(ObjectDelete)> work = [this](ObjectDelete request) {
      return remove(std::move(request));
    };
    co_return co_await once_.run(std::move(asked), std::move(work));
  });
}

Task<ObjectsTold> StoreCommands::list(ObjectsAsk asked) {
  // What a get would bring anybody may see who may have the node get it.
  const auto url = url_of(asked.url);
  const auto store = store_of(url);
  StoreCall call;
  call.shown = url.shown;
  call.stopped = [this]() -> bool { return workers_.stopping(); };
  const auto read = [url, store, call, asked] {
    ObjectsTold out;
    // A prefix as a directory is listed: what is directly below it.
    const bool is_directory = url.is_pattern() && !has_glob(url.key) && !asked.recursive;
    const auto prefix = url.is_pattern() ? url.literal_prefix() : url.key;
    const auto page = store->list(url.bucket, prefix, is_directory ? "/" : "", asked.after, call);
    out.next = page.next;
    const What what{url.path, url.path, url.is_pattern() && has_glob(url.path)};
    int looked_at = 0;
    for (const auto& object : page.objects) {
      if (object.key.ends_with('/')) continue;
      const auto path = url.bucket + "/" + object.key;
      if (!is_mesh_path(path)) {
        if (!url.is_pattern() && object.key != url.key) continue;
        if (out.nameless++ == 0) out.first_nameless = object.key;
        continue;
      }
      if (url.is_pattern() ? !names(what, path) : object.key != url.key) continue;
      ObjectEntry one;
      const auto at = url.object(object.key);
      one.url = at.identity;
      one.path = at.path;
      one.size = object.size;
      one.mtime = object.mtime;
      one.etag = object.etag;
      // Swift's of what a manifest's prefix has.
      if (url.is_swift() && one.size == 0 && one.etag == md5_of_nothing && looked_at++ < most_looked_at) try {
          const auto head = store->head(url.bucket, object.key, call);
          if (head.size >= 0) one.size = head.size;
          one.etag = head.etag;
        } catch (const Error& error) {
          if (error.status() != Status::not_found) throw;
        }
      out.objects.push_back(std::move(one));
    }
    for (const auto& below : page.prefixes) {
      ObjectEntry one;
      one.url = url.scheme() + url.store + "@" + url.bucket + "/" + below;
      out.objects.push_back(std::move(one));
    }
    std::ranges::stable_sort(out.objects, {}, &ObjectEntry::url);
    return out;
  };
  co_return co_await run_on(workers_.origins(), read);
}

Task<PutDone> StoreCommands::put(ChannelPtr channel, Put asked) {
  check_writer(channel, asked.url);
  auto url = url_of(asked.url);
  if (const auto fault = path_fault(asked.path); !fault.empty())
    throw Error(Status::usage, printable(asked.path) + ": the path " + std::string(fault));
  if (url.is_pattern()) {
    if (has_glob(url.key)) throw Error(Status::usage, printable(url.shown) + ": is a glob; a put is to one object");
    url = url.object(url.key + std::string(last_part(asked.path)));
  }
  asked.url = url.identity;
  auto& place = under_way_[asked.url];
  // Of another command: then that one, too, waits for this.
  if (!place) place = std::make_shared<Putting>();
  const auto putting = place;
  putting->askers.push_back(channel);
  std::function<Task<PutDone>(Put)> work = [this, putting](Put request) {
    return put_now(putting, std::move(request));
  };
  std::exception_ptr trouble;
  PutDone out;
  try {
    out = co_await once_.run(std::move(asked), std::move(work));
  } catch (...) {
    trouble = std::current_exception();
  }
  // What was answered before has no need of it.
  if (putting->size == 0) under_way_.erase(url.identity);
  if (trouble) std::rethrow_exception(trouble);
  co_return out;
}

/// Tells who waits how far it is, and the work that nobody does.
Task<void> StoreCommands::tell(Workers& workers, std::shared_ptr<Putting> of, std::string path) {
  while (!of->over) {
    bool is_wanted = false;
    for (const auto& weak : of->askers) {
      const auto channel = weak.lock();
      if (!channel || !channel->is_open()) continue;
      is_wanted = true;
      Progress said;
      said.done = of->done;
      said.total = of->size;
      said.files_total = 1;
      said.phase = "sending " + printable(path);
      channel->note(said);
    }
    if (!is_wanted || workers.stopping()) of->unwanted = true;
    co_await sleep_for(tell_every);
  }
}

Task<PutDone> StoreCommands::put_now(std::shared_ptr<Putting> putting, Put asked) {
  const auto url = url_of(asked.url);
  const auto store = store_of(url);
  if (putting->size != 0)
    throw Error(Status::failed, printable(url.shown) + ": is being put there by another command at this moment");
  putting->size = 1;
  log_(LogLine(printable(asked.path) + ": put to " + printable(url.shown)).of("put", asked.path));
  spawn(workers_.loop(), tell(workers_, putting, asked.path));
  const auto work = [this, putting, asked, url, store] { return send(putting, asked, url, store); };
  PutDone out;
  std::optional<Error> trouble;
  try {
    out = co_await run_on(workers_.origins(), work);
  } catch (const Error& error) {
    trouble = error;
  } catch (const std::exception& error) {
    trouble = Error(Status::failed, printable(asked.path) + ": " + error.what());
  }
  putting->over = true;
  under_way_.erase(asked.url);
  if (trouble) {
    log_(warning(printable(asked.path) + ": " + trouble->what()).of("put-failed", asked.path));
    throw Error(*trouble);
  }
  log_(LogLine(printable(asked.path) + ": is in " + printable(url.shown) + ", " + human_bytes(out.size))
           .of("put-done", asked.path));
  co_return out;
}

/// Blocks.
PutDone StoreCommands::send(const std::shared_ptr<Putting>& putting, const Put& asked, const Url& url,
                            const ObjectStorePtr& store) {
  const auto& path = asked.path;
  const auto found = library_.gate().look(path);
  if (!found)
    throw Error(Status::not_found,
                printable(path) + ": is not on this node; meshget " + printable(path) + " brings it");
  if (found->entry.kind != Kind::file) throw Error(Status::usage, printable(path) + ": is no file");
  const Fd fd = std::move(library_.gate().open_offered(path).fd);
  const auto stamp = stamp_of_open(fd.get());
  const auto check = [&] {
    if (PathGate::is_being_written(fd.get()))
      throw Error(Status::failed, printable(path) + ": somebody has it open for writing");
    if (stamp_of_open(fd.get()) != stamp)
      throw Error(Status::failed, printable(path) + ": it changed while it was sent");
  };
  check();
  putting->size = std::max<std::int64_t>(stamp.size, 1);
  StoreCall call;
  call.shown = url.shown;
  call.stopped = [this, putting] { return putting->unwanted || workers_.stopping(); };
  Upload upload;
  upload.size = stamp.size;
  upload.version = std::to_string(stamp.mtime / 1'000'000'000) + "." + std::to_string(stamp.mtime % 1'000'000'000);
  upload.may_replace = asked.force;
  upload.check = check;
  upload.read = [&](std::int64_t offset, char* to, std::size_t size) {
    while (size > 0) {
      const auto n = ::pread(fd.get(), to, size, static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0)
        throw Error(Status::failed, printable(path) + ": cannot be read: " + std::generic_category().message(errno));
      if (n == 0) throw Error(Status::failed, printable(path) + ": it changed while it was sent");
      offset += n;
      to += n;
      size -= static_cast<std::size_t>(n);
    }
  };
  upload.pace = [&](std::int64_t bytes) {
    const auto until = upload_.limit()->spend(bytes, RateLimit::Clock::now());
    while (RateLimit::Clock::now() < until) {
      if (call.stopped()) throw Error(Status::interrupted, printable(url.shown) + ": stopped");
      std::this_thread::sleep_until(std::min(until, RateLimit::Clock::now() + RateLimit::burst));
    }
  };
  upload.on_progress = [putting](std::int64_t done) { putting->done = done; };
  // What an earlier run began is gone on with where it was of the same bytes.
  const auto note = "put " + url.identity;
  const auto known = json::parse(library_.db().find_note(note), nullptr, false);
  if (known.is_object())
    (known["file"] == to_json(stamp) ? upload.resume : upload.abandoned) = known.value("state", std::string());
  upload.on_state = [&](const std::string& state) {
    library_.db().put_note(note, json{{"file", to_json(stamp)}, {"state", state}}.dump());
  };
  const auto done = store->put(url.bucket, url.key, upload, call);
  library_.db().put_note(note, "");
  PutDone out;
  out.url = url.identity;
  out.size = stamp.size;
  out.etag = done.etag;
  out.is_raced = done.is_raced;
  return out;
}

Task<ObjectDeleted> StoreCommands::remove(ObjectDelete asked) {
  const auto url = url_of(asked.url);
  if (url.is_pattern())
    throw Error(Status::usage, printable(url.shown) + ": objects are deleted one by one, each by its whole URL");
  const auto store = store_of(url);
  StoreCall call;
  call.shown = url.shown;
  call.stopped = [this]() -> bool { return workers_.stopping(); };
  const auto work = [store, url, call] {
    ObjectDeleted out;
    out.url = url.identity;
    out.size = store->head(url.bucket, url.key, call).size;
    store->remove(url.bucket, url.key, call);
    return out;
  };
  const ObjectDeleted out = co_await run_on(workers_.origins(), work);
  log_(LogLine("deleted " + printable(url.shown) + ", " + human_bytes(out.size)).of("object-deleted"));
  co_return out;
}

}  // namespace mesh
