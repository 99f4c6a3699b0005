#include "core/glob.h"

#include <algorithm>
#include <bitset>
#include <map>
#include <optional>
#include <span>
#include <utility>

#include "core/mesh_path.h"

namespace mesh {
namespace {

constexpr auto none = std::string_view::npos;

std::size_t character_bytes(std::string_view text, std::size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  const std::size_t length = lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  return std::min(length, text.size() - at);
}

/// A bracket expression that begins at pattern[at] == '[': where it ends and whether it holds `c`; nothing when it is
/// not closed.
struct Bracket {
  std::size_t end;
  bool holds;
};
std::optional<Bracket> bracket(std::string_view pattern, std::size_t at, std::string_view c) {
  std::size_t i = at + 1;
  const bool negated = i < pattern.size() && (pattern[i] == '!' || pattern[i] == '^');
  if (negated) ++i;
  bool holds = false;
  for (bool first = true; i < pattern.size() && (first || pattern[i] != ']'); first = false) {
    if (pattern[i] == '\\' && i + 1 < pattern.size()) ++i;
    const auto low = pattern.substr(i, character_bytes(pattern, i));
    i += low.size();
    auto high = low;
    if (i + 1 < pattern.size() && pattern[i] == '-' && pattern[i + 1] != ']') {
      ++i;
      if (pattern[i] == '\\' && i + 1 < pattern.size()) ++i;
      high = pattern.substr(i, character_bytes(pattern, i));
      i += high.size();
    }
    // UTF-8 sorts as code points do, provided that the lengths agree.
    const auto less = [](std::string_view a, std::string_view b) {
      return a.size() != b.size() ? a.size() < b.size() : a < b;
    };
    if (!less(c, low) && !less(high, c)) holds = true;
  }
  if (i >= pattern.size()) return std::nullopt;
  return Bracket{i + 1, holds != negated};
}

/// One step of a part's pattern against the character at text[t]: the index behind the step, or none.
std::size_t step(std::string_view pattern, std::size_t p, std::string_view text, std::size_t t, std::size_t length) {
  const char c = pattern[p];
  if (c == '?') return p + 1;
  if (c == '[')
    if (const auto set = bracket(pattern, p, text.substr(t, length))) return set->holds ? set->end : none;
  if (c == '\\' && p + 1 < pattern.size()) ++p;
  const auto wanted = character_bytes(pattern, p);
  return pattern.substr(p, wanted) == text.substr(t, length) ? p + wanted : none;
}

/// All ways through a part's pattern at once, a bit for each place in it, so that the cost is the length of the text
/// whatever the pattern (Baeza-Yates and Gonnet 1992, with loops for stars).
bool part_matches_at_length(std::string_view pattern, std::string_view text) {
  using NodePaths = std::bitset<max_part_bytes + 1>;
  std::vector<std::size_t> begins;  // of the pattern's elements
  NodePaths stars;
  for (std::size_t p = 0; p < pattern.size();) {
    if (pattern[p] == '*') {
      if (begins.empty() || !stars[begins.size() - 1]) {
        stars.set(begins.size());
        begins.push_back(p);
      }
      ++p;
      continue;
    }
    begins.push_back(p);
    if (pattern[p] == '[') {
      if (const auto set = bracket(pattern, p, " ")) {
        p = set->end;
        continue;
      }
    }
    if (pattern[p] == '\\' && p + 1 < pattern.size()) ++p;
    p += character_bytes(pattern, p);
  }
  std::map<std::string_view, NodePaths> takes;  // by character: the elements that take it
  NodePaths at;
  at.set(0);
  const auto pass_stars = [&] { at |= (at & stars) << 1; };
  pass_stars();
  for (std::size_t t = 0; t < text.size();) {
    const auto length = character_bytes(text, t);
    const auto [known, fresh] = takes.try_emplace(text.substr(t, length));
    if (fresh)
      for (std::size_t i = 0; i < begins.size(); ++i)
        if (!stars[i] && step(pattern, begins[i], text, t, length) != none) known->second.set(i);
    at = ((at & known->second) << 1) | (at & stars);
    if (at.none()) return false;
    pass_stars();
    t += length;
  }
  return at[begins.size()];
}

/// Greedy with one point of return, which is quick for all but a pattern made to be slow.
bool part_matches(std::string_view pattern, std::string_view text) {
  if (pattern.size() > max_part_bytes || text.size() > max_part_bytes) return false;
  std::size_t steps = 16 * (pattern.size() + text.size() + 1);
  std::size_t p = 0, t = 0, star = none, mark = 0;
  while (t < text.size()) {
    if (--steps == 0) return part_matches_at_length(pattern, text);
    const auto length = character_bytes(text, t);
    if (p < pattern.size() && pattern[p] == '*') {
      star = ++p;
      mark = t;
      continue;
    }
    const auto next = p < pattern.size() ? step(pattern, p, text, t, length) : none;
    if (next != none) {
      p = next;
      t += length;
    } else if (star != none) {
      p = star;
      mark += character_bytes(text, mark);
      t = mark;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

/// Which places in the pattern's parts can be reached, part of the path by part. `some`: it is enough that the pattern
/// takes one of the directories above.
bool parts_match(std::span<const std::string> pattern, std::span<const std::string_view> path, bool some) {
  std::bitset<max_glob_parts + 1> at;
  const auto enter = [&](std::size_t p) {
    for (; at.set(p), p < pattern.size() && pattern[p] == "**"; ++p) {
    }
  };
  enter(0);
  for (std::size_t t = 0; t < path.size(); ++t) {
    if (some && t > 0 && at[pattern.size()]) return true;
    const auto before = std::exchange(at, {});
    for (std::size_t p = 0; p < pattern.size(); ++p) {
      if (!before[p]) continue;
      if (pattern[p] == "**")
        enter(p);
      else if (part_matches(pattern[p], path[t]))
        enter(p + 1);
    }
    if (at.none()) return false;
  }
  return at[pattern.size()];
}

template <class Out>
Out split(std::string_view text) {
  Out out;
  for (std::size_t at = 0; at <= text.size();) {
    const auto end = std::min(text.find('/', at), text.size());
    out.emplace_back(text.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

}  // namespace

bool has_glob(std::string_view text) { return text.find_first_of("*?[\\") != none; }

std::string_view glob_fault(std::string_view pattern) {
  if (pattern.size() > max_glob_bytes) return "is longer than 1024 bytes, which is the limit for patterns";
  if (std::ranges::count(pattern, '/') >= static_cast<std::ptrdiff_t>(max_glob_parts))
    return "has more than 64 parts, which is the limit for patterns";
  return {};
}

Glob::Glob(std::string_view pattern) : parts_(split<std::vector<std::string>>(pattern)) {
  if (!glob_fault(pattern).empty()) parts_.assign(1, "/");  // matches nothing
  bool literal = true;
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    literal = literal && !has_glob(parts_[i]);
    if (literal && i + 1 < parts_.size()) prefix_ += parts_[i] + '/';
  }
}

bool Glob::matches(std::string_view path) const {
  const auto parts = split<std::vector<std::string_view>>(path);
  return parts_match(parts_, parts, false);
}

Glob::Verdict Glob::judge(std::string_view path) const {
  const auto parts = split<std::vector<std::string_view>>(path);
  if (parts_match(parts_, parts, true)) return {true, 0};
  for (std::size_t i = 0; i < parts.size() && i < parts_.size() && parts_[i] != "**"; ++i)
    if (!part_matches(parts_[i], parts[i]))
      return {false, static_cast<std::size_t>(parts[i].data() + parts[i].size() - path.data())};
  return {false, 0};
}

bool names(const What& what, std::string_view path) {
  if (what.is_glob) return Glob(what.pattern).judge(path).taken;
  return path == what.pattern || is_below(path, what.pattern);
}

namespace {

/// The first `bytes` of the pattern as they stand.
std::string with_literal_lead(std::string_view pattern, std::size_t bytes) {
  std::string out;
  for (const char c : pattern.substr(0, bytes)) {
    if (has_glob(std::string_view(&c, 1))) out += '\\';
    out += c;
  }
  return out + std::string(pattern.substr(bytes));
}

}  // namespace

What as_it_stands(What what, const std::function<bool(const std::string&)>& is_there) {
  if (!what.is_glob) return what;
  if (is_there(what.pattern)) {
    what.is_glob = false;
    return what;
  }
  for (auto lead = parent_path(what.pattern); has_glob(lead); lead = parent_path(lead)) {
    if (!is_there(std::string(lead))) continue;
    what.pattern = with_literal_lead(what.pattern, lead.size());
    break;
  }
  return what;
}

bool may_stand_for(std::string_view pattern, std::string_view asked) {
  for (auto lead = parent_path(asked); has_glob(lead); lead = parent_path(lead))
    if (pattern == with_literal_lead(asked, lead.size())) return true;
  return pattern == asked;
}

}  // namespace mesh
