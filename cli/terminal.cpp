#include "terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <clocale>
#include <cstdlib>
#include <cwchar>
#include <utility>

namespace mesh {
namespace {

constexpr std::size_t least_width = 20;

/// The bytes and columns of the first character.
std::pair<std::size_t, std::size_t> first_of(std::string_view text) {
  // What wcwidth(3) goes by; messages are not translated.
  static const bool has_locale = std::setlocale(LC_CTYPE, "C.UTF-8") != nullptr;
  std::mbstate_t state{};
  wchar_t character = 0;
  const auto bytes = std::mbrtowc(&character, text.data(), text.size(), &state);
  if (!has_locale || bytes == 0 || bytes > text.size()) return {1, 1};
  const auto columns = ::wcwidth(character);
  return {bytes, columns < 0 ? 1 : static_cast<std::size_t>(columns)};
}

}  // namespace

Terminal terminal_of(int fd) {
  Terminal out;
  const char* kind = std::getenv("TERM");
  out.draws = ::isatty(fd) == 1 && kind != nullptr && std::string_view(kind) != "dumb";
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0) return out;
  if (size.ws_col > 0 && size.ws_col < least_width) out.draws = false;
  if (size.ws_col >= least_width) out.width = size.ws_col;
  if (size.ws_row > 0) out.height = size.ws_row;
  return out;
}

std::size_t columns_of(std::string_view text) {
  std::size_t out = 0;
  while (!text.empty()) {
    const auto [bytes, columns] = first_of(text);
    text.remove_prefix(bytes);
    out += columns;
  }
  return out;
}

std::string cut_to(std::string_view text, std::size_t columns) {
  std::size_t end = 0;
  while (end < text.size()) {
    const auto [bytes, more] = first_of(text.substr(end));
    if (more > columns) break;
    columns -= more;
    end += bytes;
  }
  return std::string(text.substr(0, end));
}

std::string fitted(std::string_view text, std::size_t columns) {
  constexpr std::string_view dots = "...";
  auto taken = columns_of(text);
  std::string out;
  if (taken > columns) {
    while (taken + dots.size() > columns && !text.empty()) {
      const auto [bytes, fewer] = first_of(text);
      text.remove_prefix(bytes);
      taken -= fewer;
    }
    out = dots;
    taken += dots.size();
  }
  out += text;
  out.append(columns - std::min(columns, taken), ' ');
  return out;
}

}  // namespace mesh
