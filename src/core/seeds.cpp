#include "core/seeds.h"

#include <algorithm>

#include "core/error.h"
#include "core/format.h"

namespace mesh {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

std::string read_seed(std::string_view text, const FilesDir& files_dir) {
  if (text.starts_with('/') && !files_dir.relative(text)) return std::string(text);
  const auto what = parse_what(text, files_dir);
  if (!what.url.empty() || what.id.is_set() || what.pattern.empty())
    throw Error(Status::usage, printable(text) + ": a seed is a file that is here");
  return what.pattern;
}

bool has_outside_seed(const std::vector<std::string>& seeds, const FilesDir& files_dir) {
  return std::ranges::any_of(seeds, [&](const std::string& seed) { return is_outside(read_seed(seed, files_dir)); });
}

std::string without_numbers(std::string_view path) {
  std::string out;
  for (const char c : path)
    if (!is_digit(c) || out.empty() || out.back() != '0') out.push_back(is_digit(c) ? '0' : c);
  return out;
}

bool differ_in_digits_alone(std::string_view a, std::string_view b) {
  return a != b && without_numbers(a) == without_numbers(b);
}

std::vector<std::string> choose_seeds(const FileEntry& wanted, const std::vector<std::string>& named,
                                      std::vector<FileEntry> siblings) {
  auto out = named;
  out.push_back(wanted.path);
  std::erase_if(siblings, [&](const FileEntry& other) {
    return other.kind != Kind::file || !differ_in_digits_alone(last_part(other.path), last_part(wanted.path));
  });
  std::ranges::sort(siblings, std::greater(), &FileEntry::mtime);
  for (const auto& sibling : siblings) out.push_back(sibling.path);
  return out;
}

}  // namespace mesh
