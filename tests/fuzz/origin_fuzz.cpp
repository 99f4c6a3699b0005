// The headers with which a URL's server answers, a line each.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "transfer/origin_answer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  mesh::OriginAnswer answer;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size() - 1) + 1;
    answer.take(text.substr(0, end));
    text.remove_prefix(end);
  }
  const auto& head = answer.head;
  if (answer.content_length < -1 || answer.range_begin < -1 || answer.range_end < -1 || answer.range_total < -1 ||
      (answer.range_total >= 0 && answer.range_end > answer.range_total) || answer.retry_after < 0 ||
      answer.retry_after > 120 || head.mtime < 0 || head.validator().size() > 500)
    std::abort();
  return 0;
}
