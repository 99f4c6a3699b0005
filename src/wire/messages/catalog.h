// What the nodes have, and what is to be had under a path. A part of the vocabulary in wire/messages.h.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/digest.h"
#include "core/entry.h"
#include "wire/messages/common.h"

namespace mesh {

/// A note: what changed in the sender's files dir. `begin` opens a whole inventory, `end` closes it.
struct InventoryDelta {
  static constexpr const char* name = "inventory";
  bool begin = false;
  bool end = false;
  std::vector<FileEntry> put;
  std::vector<std::string> removed;
  template <class V>
  void describe(V& v) {
    v("begin", begin), v("end", end), v("put", put), v("del", removed);
  }
};

/// The same in notes of at most `page_entries` each, removals first. Without `begin` and `end`.
[[nodiscard]] std::vector<InventoryDelta> in_pages(const InventoryDelta& delta);

struct ResolvedFile {
  FileEntry entry;                     ///< of the chosen version; `id` unset where nobody has hashed it
  std::vector<std::uint32_t> holders;  ///< keys of nodes that have the bytes, or of the one candidate
  std::string problem;                 ///< why this path cannot be had, in words; then the rest does not count
  bool own_wins = false;               ///< the asker's own copy would be chosen, were it asked for by somebody else
  ContentId own_known{};  ///< the asker's own copy, where another node has these bytes too, or had them here
  template <class V>
  void describe(V& v) {
    v("e", entry), v("h", holders), v("x", problem), v("own", own_wins), v("known", own_known);
  }
};

struct Resolved {
  static constexpr const char* name = "resolved";
  std::vector<ResolvedFile> files;
  std::vector<NodeRef> nodes;    ///< the nodes that `files` mention
  std::string next;              ///< ask again with `after` = next; empty at the end
  std::vector<FileEntry> above;  ///< the directories that `files` lie in and that are not among them
  bool literal = false;          ///< what looks like a glob is a path that is there: it is taken for that
  template <class V>
  void describe(V& v) {
    v("files", files), v("nodes", nodes), v("next", next), v("above", above), v("lit", literal);
  }
};

/// Which files a WHAT names, each with its chosen version. The asker's own copies do not count unless nobody else has
/// any.
struct Resolve {
  static constexpr const char* name = "resolve";
  using Reply = Resolved;
  ContentId id{};       ///< set: the file of this content, whatever else is asked; `pattern` is then "id:HEX"
  std::string pattern;  ///< as in What
  bool glob = false;
  std::string from;
  bool strict = false;
  std::string after;
  template <class V>
  void describe(V& v) {
    v("pattern", pattern), v("glob", glob), v("from", from), v("strict", strict), v("after", after), v("id", id);
  }
};

struct ListItem {
  FileEntry entry;
  int holders = 0;
  int versions = 0;     ///< that are certainly different
  bool unsure = false;  ///< there may be more: copies that could differ, and that nobody has hashed
  template <class V>
  void describe(V& v) {
    v("e", entry), v("n", holders), v("v", versions), v("unsure", unsure);
  }
};

struct Listed {
  static constexpr const char* name = "listed";
  std::vector<ListItem> items;
  std::string next;
  bool literal = false;  ///< as in Resolved
  std::string pattern;   ///< the glob as it was read, where a directory that is there begins it
  std::string view;      ///< when no tracker answers: whose word this is, and what it lacks, in words
  template <class V>
  void describe(V& v) {
    v("items", items), v("next", next), v("view", view), v("lit", literal), v("pattern", pattern);
  }
};

struct List {
  static constexpr const char* name = "list";
  using Reply = Listed;
  std::string pattern;
  std::string prefix;  ///< of a directory: only what is directly in it and has a name that begins so
  bool glob = false;
  bool recursive = false;
  bool local = false;
  bool local_if_alone = false;  ///< what is here is all there is, where no tracker is named and no other node known
  std::string after;
  int most = 0;  ///< in one answer; 0: a page
  [[nodiscard]] std::size_t page() const {
    return most > 0 && std::cmp_less(most, page_entries) ? static_cast<std::size_t>(most) : page_entries;
  }
  template <class V>
  void describe(V& v) {
    v("pattern", pattern), v("prefix", prefix), v("glob", glob), v("recursive", recursive), v("local", local),
        v("after", after), v("most", most), v("alone", local_if_alone);
  }
};

struct VersionInfo {
  FileEntry entry;
  bool chosen = false;
  std::vector<std::string> nodes;
  template <class V>
  void describe(V& v) {
    v("e", entry), v("chosen", chosen), v("nodes", nodes);
  }
};

struct Versions {
  static constexpr const char* name = "versions";
  std::vector<VersionInfo> versions;
  template <class V>
  void describe(V& v) {
    v("versions", versions);
  }
};

struct Info {
  static constexpr const char* name = "info";
  using Reply = Versions;
  std::string path;
  template <class V>
  void describe(V& v) {
    v("path", path);
  }
};

}  // namespace mesh
