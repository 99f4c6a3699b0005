#include "core/pack.h"

#include <algorithm>
#include <functional>
#include <string_view>

#include "core/merkle.h"
#include "core/mesh_path.h"

namespace mesh {
namespace {

/// One directory in so many ends a pack that has enough.
constexpr unsigned end_one_in = 4;

void append(std::string& out, std::uint64_t number) {
  for (int i = 0; i < 8; ++i) out.push_back(static_cast<char>(number >> (8 * i)));
}

bool ends_packs(std::string_view directory) {
  return static_cast<unsigned char>(sha256(directory).bytes[0]) % end_one_in == 0;
}

}  // namespace

PackId pack_id(std::span<const PackFile> files) {
  std::string text;
  for (const auto& file : files) {
    append(text, file.path.size());
    text += file.path;
    append(text, static_cast<std::uint64_t>(file.size));
    append(text, static_cast<std::uint64_t>(file.mtime));
    text += file.id.view();
  }
  return sha256(text);
}

std::string pack_name(std::span<const PackFile> files) {
  if (files.empty()) return ".";
  // They are sorted: what the first and the last have in common, all have.
  auto directory = parent_path(files.front().path);
  while (!directory.empty() && !is_below(files.back().path, directory)) directory = parent_path(directory);
  return directory.empty() ? "." : std::string(directory);
}

std::vector<std::pair<std::size_t, std::size_t>> cut_packs(std::span<const PackFile> files, const PackLimits& limits) {
  std::vector<std::pair<std::size_t, std::size_t>> out;
  std::size_t begin = 0;
  std::size_t path_bytes = 0;
  std::int64_t bytes = 0;
  const auto end = [&](std::size_t at) {
    if (bytes >= limits.least_bytes && at - begin >= limits.least_files) out.emplace_back(begin, at);
    begin = at;
    path_bytes = 0;
    bytes = 0;
  };
  for (std::size_t i = 0; i < files.size(); ++i) {
    const auto& file = files[i];
    const bool is_full = bytes + file.size > limits.most_bytes || i - begin >= limits.most_files ||
                         path_bytes + file.path.size() > limits.most_path_bytes;
    const auto directory = parent_path(file.path);
    const bool is_next = i > begin && directory != parent_path(files[i - 1].path);
    if (is_full || (is_next && bytes >= limits.good_bytes && ends_packs(directory))) end(i);
    path_bytes += file.path.size();
    bytes += file.size;
  }
  end(files.size());
  return out;
}

std::string pack_fault(std::span<const PackFile> files, const PackLimits& limits) {
  if (files.empty()) return "no files";
  if (files.size() > limits.most_files) return "too many files";
  std::int64_t bytes = 0;
  std::size_t path_bytes = 0;
  for (std::size_t i = 0; i < files.size(); ++i) {
    const auto& file = files[i];
    if (!is_mesh_path(file.path)) return "a path that is none";
    if (file.size < 0 || file.size > packed_file_bytes) return "a file that is not small";
    if (i > 0 && files[i - 1].path >= file.path) return "paths that are not sorted";
    bytes += file.size;
    path_bytes += file.path.size();
  }
  if (bytes > limits.most_bytes || path_bytes > limits.most_path_bytes) return "too many bytes";
  return {};
}

bool are_indices(std::span<const std::uint32_t> left_out, std::size_t files) {
  return std::ranges::adjacent_find(left_out, std::greater_equal<>()) == left_out.end() &&
         (left_out.empty() || left_out.back() < files);
}

std::int64_t pack_size(std::span<const PackFile> files, std::span<const std::uint32_t> left_out) {
  std::int64_t out = 0;
  for (const auto& file : files) out += file.size;
  for (const auto index : left_out) out -= files[index].size;
  return out;
}

}  // namespace mesh
