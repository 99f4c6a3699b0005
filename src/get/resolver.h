// From what a get names to the files that it is about, by the tracker's choice. On the node's loop.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/error.h"
#include "get/get_task.h"
#include "get/local_rules.h"
#include "store/stores.h"
#include "wire/task.h"

namespace mesh {

using NodesByKey = std::map<std::uint32_t, NodeRef>;
using Results = std::vector<GetOutcome>;

/// The files of a get, or of a part of it.
struct Plan {
  std::map<std::string, Planned> files;    ///< by path
  std::map<std::string, FileEntry> above;  ///< directories that `files` lie in
  NodesByKey nodes;                        ///< that hold them
};

class Resolver {
 public:
  struct Options {
    std::vector<std::string> url_ignore{};  ///< keys of a query that are no part of what a URL names
    FilesDir files;                         ///< the files directory: WHATs may begin with it
    bool local_urls = false;                ///< for other nodes, too, get URLs at loopback and link-local addresses
    /// What this node itself has under a path. May be unset.
    std::function<std::optional<FileEntry>(const std::string& path)> own{};
    std::shared_ptr<const Stores> stores{};     ///< that this node may ask; may be null
    std::chrono::milliseconds ask_again{1000};  ///< with --wait, for what is not there
  };
  /// Asks a tracker. Throws Error.
  using Ask = std::function<Task<Resolved>(Resolve)>;
  /// Whether the origin still has what the mesh has. Throws Error.
  /// `etag`: what it says of it, where it was asked already; else empty.
  using IsCurrent = std::function<Task<bool>(GetTaskPtr, UrlSource, FileEntry, std::string etag)>;
  /// A page of what is in a store. Throws Error.
  using ListObjects =
      std::function<Task<ObjectPage>(GetTaskPtr, ObjectStorePtr, Url, std::string prefix, std::string after)>;
  Resolver(Options options, Ask ask, IsCurrent is_current, ListObjects list_objects, LocalRules& rules)
      : options_(std::move(options)),
        ask_(std::move(ask)),
        is_current_(std::move(is_current)),
        list_objects_(std::move(list_objects)),
        rules_(rules) {}

  /// Adds what the request's WHAT number `index` names; a link that it names by itself, with what that leads to. What
  /// is wrong is in `results`. With --wait it waits for what is not there.
  Task<void> resolve(GetTaskPtr task, int index, Plan& plan, Results& results);
  /// Adds what the tracker chose for `what`, which may be a glob or a directory. `index` is that of the request's WHAT;
  /// `print`: the paths that it names are to be printed. Throws Error. `task` may be null; `asked` and `plan` must live
  /// until it returns. Whether it was a glob after all: a path that is there is none, whatever it looks like. `is_one`:
  /// of a directory no more is wanted than that it is one.
  Task<bool> resolve_what(const Get& asked, int index, What what, Plan& plan, bool print, GetTaskPtr task,
                          bool is_one = false);
  /// Adds one file, and what its links lead to; no directory, nothing below one. Throws Error.
  Task<void> resolve_file(Get asked, int index, std::string path, Plan& plan, GetTaskPtr task);

  /// What the tracker chose for one path, links followed; with the nodes that it mentions. `from` and `strict` are
  /// those of a get. Throws Error.
  struct Chosen {
    ResolvedFile file;
    NodesByKey nodes;
  };
  Task<Chosen> choose(std::string path, std::string from, bool strict);
  /// Thrown by `choose` of a directory: its path, links followed.
  struct IsDirectory : Error {
    explicit IsDirectory(std::string directory);
    std::string path;
  };

 private:
  Task<void> resolve_url(GetTaskPtr task, int index, What what, Plan& plan);
  Task<void> resolve_objects(GetTaskPtr task, int index, What what, Url url, Plan& plan, Results& results);
  /// What the mesh has of it. `nothing`: that it has nothing is no error.
  Task<Plan> find_in_mesh(GetTaskPtr task, int index, What what, Url url);
  /// Adds what is to be had of `source`, of which `of_mesh` has what the mesh has. Throws Error.
  Task<void> add_url(GetTaskPtr task, int index, UrlSource source, std::string etag, Plan& of_mesh, Plan& plan);
  [[nodiscard]] UrlSource source_of(const GetTask& task, Url url) const;

  Options options_;
  Ask ask_;
  IsCurrent is_current_;
  ListObjects list_objects_;
  LocalRules& rules_;
};

}  // namespace mesh
