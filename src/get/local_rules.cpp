#include "get/local_rules.h"

#include "core/error.h"
#include "core/format.h"

namespace mesh {

bool LocalRules::keeps(const Planned& planned, bool force) const {
  using Verdict = LocalState::Verdict;
  const auto& before = planned.before;
  const auto& own_wins = planned.file.own_wins;
  switch (before.verdict) {
    case Verdict::absent:
      return false;
    case Verdict::same:
      return true;
    case Verdict::ours:
    case Verdict::unknown:
      return own_wins && !force;  // the version here is the mesh's choice; others are about to get it
    case Verdict::other_kind:
      throw Error(Status::failed,
                  printable(planned.file.entry.path) + ": kept: a " +
                      (planned.file.entry.kind == Kind::link ? "link" : "file") +
                      " in the mesh, but here it is a directory",
                  std::make_error_code(std::errc::file_exists));
    case Verdict::users:
      if (force) return false;
      // The author's own newer file is what the mesh is about to offer to others.
      if (!before.received && own_wins) return true;
      throw Error(Status::failed, conflict(planned.file.entry, before, planned.file.holders),
                  std::make_error_code(std::errc::file_exists));
  }
  return false;
}

std::string LocalRules::conflict(const FileEntry& wanted, const LocalState& local,
                                 const std::vector<std::uint32_t>& holders) const {
  const auto name = holders.empty() ? node_names_.end() : node_names_.find(holders.front());
  const auto said = [](const FileEntry& entry) {
    return (entry.kind == Kind::file ? human_bytes(entry.size) : "link to " + printable(entry.target)) + " of " +
           human_time(entry.mtime);
  };
  return printable(wanted.path) + ": kept: the local " + (local.entry.kind == Kind::file ? "file" : "link") + " (" +
         said(local.entry) + ") was made or changed here; the mesh has " + said(wanted) +
         (name == node_names_.end() ? "" : " on " + name->second) + " (--force replaces it)";
}

}  // namespace mesh
