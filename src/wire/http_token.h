// The token that the HTTP gateway asks for (RFC 6750). Any thread; blocks.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace mesh {

/// The token in `file`: one line of 16 to 256 visible characters, and a file that nobody else may read or change. One
/// is made where there is no such file. Throws Error(usage).
[[nodiscard]] std::string token_of(const std::filesystem::path& file);
/// Whether an Authorization header carries it, in a time that does not tell how much of it is right.
[[nodiscard]] bool carries_token(std::string_view authorization, std::string_view token);

}  // namespace mesh
