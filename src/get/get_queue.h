// The gets of a node, from the moment somebody asks until somebody has heard how it ended: what `meshget`, `meshfile
// get`, `wait` and `cancel` speak to. Gets are written down, and a restarted node goes on with those that had not
// ended. On the node's loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "get/getter.h"
#include "wire/channel.h"

namespace mesh {

class GetQueue {
 public:
  /// Sends the file of a get along while it arrives (Streamer::pipe).
  using Pipe = std::function<Task<void>(ChannelPtr, GetTaskPtr, std::shared_ptr<bool> over)>;
  /// `max_gets`: under way, those that wait included.
  GetQueue(Workers& workers, int max_gets, Log log, Library& library, const Room& room, Transfers& transfers,
           Getter& getter, Pipe pipe)
      : workers_(workers),
        max_gets_(max_gets),
        log_(std::move(log)),
        library_(library),
        room_(room),
        transfers_(transfers),
        getter_(getter),
        pipe_(std::move(pipe)),
        ended_(workers.loop()) {}

  /// Goes on with what had not ended when the node went down.
  void resume();
  /// What had not ended, as it was asked for; and to go on with that in another node's place.
  [[nodiscard]] std::vector<Get> requests() const;
  void inherit(const std::vector<Get>& requests);
  /// A get of the node's own: nobody waits for it, it is not written down, and ends where it cannot go on. `on_end` is
  /// told what became of it. `budget`: bytes that may come yet, of all that have it; null: no bound. Returns its
  /// number. Throws Error(usage).
  using OnEnd = std::function<void(const std::vector<GetOutcome>&)>;
  std::int64_t keep(Get request, std::shared_ptr<std::int64_t> budget, OnEnd on_end);
  /// Of a get of the node's own that is under way: ends it soon; bytes that it has of what it gets, and of its budget.
  void stop_keeping(std::int64_t number);
  struct Kept {
    std::int64_t done = 0;
    std::int64_t spent = 0;
    bool waits_for_bytes = false;  ///< of others; and does not check, hash, copy, place, or wait for its turn
  };
  [[nodiscard]] Kept kept(std::int64_t number) const;
  /// Drops what is kept of downloads to this path that nobody is at.
  Task<void> drop_partials(std::string path);
  /// Told of what somebody here does not want any more, before it is over.
  std::function<void(const What&)> on_dropped;
  /// Why the node stops, for those who wait for a get.
  void explain(std::string why) { why_it_stops_ = std::move(why); }

  /// A command's get: outcomes and progress go to `channel`. Detached, or without a channel: returns once it is noted
  /// down and, unless it waits for what is not there yet, has had a moment to find out that it cannot be had; throws
  /// Error(usage) for what can be told now.
  Task<GetReply> get(ChannelPtr channel, Get request);
  /// `channel` may be null: then nothing is reported on the way.
  Task<GetReply> wait(ChannelPtr channel, Wait request);
  /// Throws Error(not_found) where nothing of that is under way.
  Task<Cancelled> cancel(Cancel request);
  /// Stops what `what` names, and with `discard` drops its partials; returns when that is done.
  Task<Cancelled> drop(What what, bool discard);

  /// Whether the file of this very path is on its way, or a part of it is kept. (A database's question: brief.)
  [[nodiscard]] bool knows(const std::string& path) const;
  [[nodiscard]] bool is_idle() const { return running_.empty(); }
  /// Gets under way, and those that failed and that nobody has heard of.
  [[nodiscard]] std::vector<GetInfo> list() const;

 private:
  GetTaskPtr add(Get request, bool is_kept = false, std::optional<std::int64_t> number = {});
  [[nodiscard]] std::vector<std::string> parse_seeds(const Get& request) const;
  Task<void> run_kept(GetTaskPtr task, OnEnd on_end);
  [[nodiscard]] GetTaskPtr same_under_way(const Get& request) const;
  [[nodiscard]] GetTaskPtr find_once(const std::string& once) const;
  Task<void> run_detached(GetTaskPtr task);
  Task<GetReply> look_first(GetTaskPtr task);
  void end(const GetTaskPtr& task, const std::vector<GetOutcome>& outcomes, bool reported);
  void remember(GetInfo info);
  [[nodiscard]] GetInfo describe(const GetTask& task) const;
  [[nodiscard]] What read(What what) const;
  [[nodiscard]] What parse(const std::string& text) const;
  [[nodiscard]] std::vector<What> parse_all(const std::vector<std::string>& texts, const char* for_what) const;

  Workers& workers_;
  int max_gets_;
  Log log_;
  Library& library_;
  const Room& room_;
  Transfers& transfers_;
  Getter& getter_;
  Pipe pipe_;
  std::map<std::int64_t, GetTaskPtr> running_;
  std::map<std::int64_t, GetInfo> over_;        ///< by number; some of the newest that have ended
  std::multiset<std::int64_t> awaited_;         ///< by those who wait
  std::map<std::string, std::int64_t> served_;  ///< requests (Get::once) that another one's get serves
  std::int64_t endings_ = 0;
  std::int64_t last_kept_ = 0;  ///< numbers of gets of the node's own are below zero
  std::string why_it_stops_;
  Event ended_;
};

}  // namespace mesh
