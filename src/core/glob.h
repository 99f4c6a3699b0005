// Globs over mesh paths: '*' and '?' within a part, '[a-z]' and '[!a-z]', '**' as a whole part for any number of parts,
// '\' before a character that stands for itself. As in minimega, '*' also matches a leading dot. Pure; any thread.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace mesh {

[[nodiscard]] bool has_glob(std::string_view text);

/// A pattern has at most so many bytes and parts, so that no question takes long. To match a path takes a time that
/// grows with its length, whatever the pattern.
inline constexpr std::size_t max_glob_bytes = 1024;
inline constexpr std::size_t max_glob_parts = 64;
/// What is wrong with `pattern` besides, in words; empty when nothing is.
[[nodiscard]] std::string_view glob_fault(std::string_view pattern);

class Glob {
 public:
  /// One that glob_fault finds something wrong with matches nothing.
  explicit Glob(std::string_view pattern);

  /// Whether the whole of `path` matches.
  [[nodiscard]] bool matches(std::string_view path) const;

  /// How a path stands to the glob when the glob also takes everything below a directory that it matches.
  struct Verdict {
    bool taken = false;
    /// When not taken: no path that begins with the first `dead` bytes of this path and goes on with '/' or ends there
    /// can be taken, so that a sorted walk may skip them. 0: nothing is known.
    std::size_t dead = 0;
  };
  [[nodiscard]] Verdict judge(std::string_view path) const;

  /// The longest text, ending at a '/', that every match begins with.
  [[nodiscard]] const std::string& literal_prefix() const { return prefix_; }

 private:
  std::vector<std::string> parts_;
  std::string prefix_;
};

struct What;
/// Whether a WHAT names `path`: as itself, as something below the directory that it is, or by matching its glob.
[[nodiscard]] bool names(const What& what, std::string_view path);

/// `what`, in which a path that is there wins over the glob that it spells, and so does a directory that begins it:
/// those parts are taken as they stand.
[[nodiscard]] What as_it_stands(What what, const std::function<bool(const std::string&)>& is_there);
/// Whether `pattern` is what as_it_stands may make of the glob `asked`, whatever is there: for one that somebody else
/// has read.
[[nodiscard]] bool may_stand_for(std::string_view pattern, std::string_view asked);

}  // namespace mesh
