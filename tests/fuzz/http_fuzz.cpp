// An HTTP request's target, Range and conditions (core/http_request.h).
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/http_request.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mesh;
  if (size < 2) return 0;
  const std::int64_t file = data[0] < 8 ? data[0] : std::int64_t{1} << (data[0] % 62);
  const auto which = data[1];
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  if (const auto target = read_target(text)) {
    if (!target->path.starts_with('/') || target->path.find('\0') != std::string::npos) std::abort();
    const auto again = read_target(url_path(target->path));
    if (!again || again->path != target->path) std::abort();
  }
  const auto range = read_range(text, file);
  if (range.range && (range.range->first < 0 || range.range->length <= 0 || range.range->first >= file ||
                      range.range->length > file - range.range->first))
    std::abort();
  if (range.range && !range.is_satisfiable) std::abort();
  Preconditions given;
  (which == 0   ? given.if_match
   : which == 1 ? given.if_none_match
   : which == 2 ? given.if_modified_since
   : which == 3 ? given.if_unmodified_since
                : given.if_range) = text;
  const Validators current{"\"0123456789abcdef\"", 784111777};
  const auto status = evaluate(given, current);
  if (status != 200 && status != 304 && status != 412) std::abort();
  static_cast<void>(is_range_wanted(given, current, 800'000'000));
  for (const char c : html_text(text))
    if (c == '<' || c == '>' || c == '"') std::abort();
  static_cast<void>(media_type(text));
  return 0;
}
