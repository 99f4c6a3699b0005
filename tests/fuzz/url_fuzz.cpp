// URLs and WHATs as a user, a script or another node may write them: parsed or refused, never shown with a password,
// and never a path that is none.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "core/error.h"
#include "core/mesh_path.h"
#include "core/url.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto shown = mesh::without_secrets(text);
  if (shown.size() > text.size() + 3) std::abort();  // a query is three dots
  try {
    const auto url = mesh::parse_url(text);
    if (!mesh::is_mesh_path(url.path)) std::abort();
    if (!url.sha256.empty() && url.sha256.size() != 64) std::abort();
    if (mesh::parse_url(url.shown).path != url.path) std::abort();
  } catch (const mesh::Error&) {
  }
  try {
    const auto what = mesh::parse_what(text, {"/tmp/minimega/files"});
    if (!what.pattern.empty() && !mesh::is_mesh_path(what.pattern)) std::abort();
  } catch (const mesh::Error&) {
  }
  return 0;
}
