// libFuzzer target: what a page in a browser asks to be done, and what it searches for.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "core/error.h"
#include "core/glob.h"
#include "page/orders.h"
#include "page/page_view.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const auto order = mesh::read_page_order(text);
    for (const auto& what : order.whats)
      if (what.empty()) std::abort();
  } catch (const mesh::Error& error) {
    if (error.status() != mesh::Status::usage) std::abort();
  }
  const auto glob = mesh::page_view::glob_for(text.substr(0, 100));
  if (mesh::glob_fault(glob).empty()) static_cast<void>(mesh::Glob(glob).matches(text.substr(0, 200)));
  return 0;
}
