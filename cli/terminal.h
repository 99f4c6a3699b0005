// What can be drawn on a stream, and text cut to its width: in columns, not bytes.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace mesh {

struct Terminal {
  bool draws = false;  ///< lines can be drawn anew in place: a terminal, and no dumb one
  std::size_t width = 80;
  std::size_t height = 24;
};
/// Of a descriptor, as it is now.
[[nodiscard]] Terminal terminal_of(int fd);

/// Columns that UTF-8 text takes; what is no text counts one a byte.
[[nodiscard]] std::size_t columns_of(std::string_view text);
/// The beginning of it that takes at most so many columns, never a part of a character.
[[nodiscard]] std::string cut_to(std::string_view text, std::size_t columns);
/// Exactly so many columns: what is longer loses its beginning, of a path the lesser part.
[[nodiscard]] std::string fitted(std::string_view text, std::size_t columns);

}  // namespace mesh
