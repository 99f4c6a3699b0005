// What the HTTP gateway answers, as it is written: heads, texts, and what they say to browsers (RFC 9110, 9112). Any
// thread.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"

namespace mesh::http_answer {

/// What is sent before a body.
struct Head {
  int status = 200;
  std::vector<std::pair<std::string, std::string>> fields{};
  std::int64_t length = 0;  ///< of the body; negative: it goes on until the connection is closed
};

struct Text {
  Head head;
  std::string body{};
};

/// As it goes out; with `Connection: close` where the connection does not go on.
[[nodiscard]] std::string rendered(const Head& head, bool goes_on);
/// The status that says the same.
[[nodiscard]] int status_of(const Error& error);
/// Any member of the mesh may have put a page there, which is not to be this node's. What is of this node, as `is_own`
/// says, or nothing but a picture, a film or a sound, may lead to, or load itself from, where it came from.
void add_guards(Head& head, bool is_own);
/// Of a page of this program's own: what runs on it, and what it looks like, comes from here alone, and so does what it
/// asks; nobody frames it.
void add_page_guards(Head& head);
[[nodiscard]] Text error_text(int status, const std::string& why);
/// It may be something else the next time.
[[nodiscard]] Text found_at(const std::string& place);

}  // namespace mesh::http_answer
