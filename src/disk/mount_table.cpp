#include "disk/mount_table.h"

#include <fstream>
#include <sstream>

namespace mesh {
namespace {

/// Blanks, line ends and backslashes are written as \ and three octal digits.
std::string unescaped(const std::string& text) {
  std::string out;
  const auto is_octal = [&](std::size_t at) { return at < text.size() && text[at] >= '0' && text[at] <= '7'; };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && is_octal(i + 1) && is_octal(i + 2) && is_octal(i + 3)) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace

std::vector<MountEntry> mount_table(const std::string& table) {
  std::vector<MountEntry> out;
  std::ifstream in(table);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    MountEntry entry;
    std::string number, parent, word;
    words >> number >> parent >> entry.device >> entry.root >> entry.at >> entry.options;
    while (words >> word && word != "-") continue;
    words >> entry.type >> entry.source >> entry.file_system_options;
    entry.root = unescaped(entry.root);
    entry.at = unescaped(entry.at);
    entry.source = unescaped(entry.source);
    entry.file_system_options = unescaped(entry.file_system_options);
    out.push_back(std::move(entry));
  }
  return out;
}

}  // namespace mesh
