#include "core/node_ranges.h"

#include <algorithm>
#include <charconv>
#include <cstdint>

#include "core/error.h"
#include "core/format.h"

namespace mesh {
namespace {

constexpr std::size_t most_nodes = 10'000;

Error bad(std::string_view text, const char* why) {
  return {Status::usage, printable(text) + ": " + why + "; nodes are listed as n1,n2 or n[1-3,7]"};
}

/// Splits at commas that stand outside of brackets.
std::vector<std::string_view> parts_of(std::string_view list) {
  std::vector<std::string_view> out;
  bool inside = false;
  std::size_t begin = 0;
  for (std::size_t i = 0; i <= list.size(); ++i) {
    if (i < list.size() && list[i] == '[') {
      if (inside) throw bad(list, "'[' within '['");
      inside = true;
    } else if (i < list.size() && list[i] == ']') {
      if (!inside) throw bad(list, "']' without '['");
      inside = false;
    } else if (i == list.size() || (list[i] == ',' && !inside)) {
      if (const auto part = list.substr(begin, i - begin); !part.empty()) out.push_back(part);
      begin = i + 1;
    }
  }
  if (inside) throw bad(list, "'[' is not closed");
  return out;
}

std::uint32_t number(std::string_view text, std::string_view list) {
  std::uint32_t out = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (text.empty() || ec != std::errc{} || end != text.data() + text.size()) throw bad(list, "no number in '[...]'");
  return out;
}

/// "7" or "1-3".
std::vector<std::string> expand_range(std::string_view range, std::string_view list) {
  const auto dash = range.find('-');
  const auto first = range.substr(0, dash);
  const auto low = number(first, list);
  const auto high = dash == std::string_view::npos ? low : number(range.substr(dash + 1), list);
  if (high < low) throw bad(list, "a range runs backwards");
  if (high - low >= most_nodes) throw bad(list, "names more than 10000 nodes");
  const std::size_t width = first.starts_with('0') ? first.size() : 1;
  std::vector<std::string> out;
  for (std::uint64_t n = low; n <= high; ++n) {
    auto text = std::to_string(n);
    text.insert(0, width - std::min(width, text.size()), '0');
    out.push_back(std::move(text));
  }
  return out;
}

}  // namespace

std::vector<std::string> expand_nodes(std::string_view list) {
  std::vector<std::string> out;
  for (const auto part : parts_of(list)) {
    // One bracket after the other: rack[1-2]n[1-4] has eight.
    std::vector<std::string> names(1);
    for (std::size_t at = 0; at < part.size();) {
      const auto open = std::min(part.find('[', at), part.size());
      for (auto& name : names) name += part.substr(at, open - at);
      if (open == part.size()) break;
      const auto close = part.find(']', open);
      std::vector<std::string> grown;
      for (const auto range : parts_of(part.substr(open + 1, close - open - 1)))
        for (const auto& text : expand_range(range, list))
          for (const auto& name : names) {
            grown.push_back(name + text);
            if (grown.size() + out.size() > most_nodes) throw bad(list, "names more than 10000 nodes");
          }
      if (grown.empty()) throw bad(list, "'[]' names nothing");
      names = std::move(grown);
      at = close + 1;
    }
    out.insert(out.end(), names.begin(), names.end());
    if (out.size() > most_nodes) throw bad(list, "names more than 10000 nodes");
  }
  return out;
}

}  // namespace mesh
