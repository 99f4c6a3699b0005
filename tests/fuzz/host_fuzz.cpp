// The Host of a request: an outsider's word, which decides whether he is answered.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "wire/access.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const bool answered = mesh::http_refusal({true, false, false, text}, {"head.example"}).empty();
  // A page can give itself no name that is answered to, whatever it begins or ends with.
  if (answered && text.find("evil.example") != std::string_view::npos) std::abort();
  if (mesh::http_refusal({true, true, false, text}, {}).empty()) std::abort();
  return 0;
}
