// The turns of hostile nodes at the tracker's plan of a URL: refused or obeyed, within bounds.
#include <cstdint>
#include <cstdlib>

#include "core/error.h"
#include "core/piece_plan.h"
#include "url_plan.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  mesh::UrlPlan plan(1000);
  mesh::UrlPlan::TimePoint now{};
  std::size_t at = 0;
  const auto byte = [&]() -> int { return at < size ? data[at++] : 0; };
  for (int turns = 0; turns < 40 && at < size; ++turns) {
    mesh::OriginReport said;
    const int kind = byte();
    const auto node = static_cast<mesh::NodeKey>(byte() % 5 + 1);
    said.epoch = 1000 + byte() % 3 - 1;
    said.idle = (kind & 1) != 0;
    said.whole = (kind & 2) != 0 && byte() % 8 == 0;
    said.leave = (kind & 4) != 0 && byte() % 4 == 0;
    said.known = byte() - 5;
    if ((kind & 8) != 0) {
      said.facts.size = std::int64_t{byte()} << (byte() % 16);
      said.facts.ranges = byte() % 2 == 0;
      said.facts.validator = static_cast<char>(byte());
    }
    if ((kind & 16) != 0) said.have.assign(static_cast<std::size_t>(byte()), static_cast<char>(byte()));
    for (int i = 0; (kind & 32) != 0 && i < byte() % 4; ++i) {
      mesh::UrlPiece piece;
      piece.index = byte() - 2;
      piece.root.bytes[0] = static_cast<char>(byte());
      said.pieces.push_back(piece);
    }
    if ((kind & 64) != 0 && byte() % 4 == 0) said.error = "cannot";
    now += std::chrono::seconds(byte() % 16);
    try {
      const auto orders = plan.turn(node, said, now);
      if (orders.begin > orders.end || orders.begin < 0) std::abort();
      if (orders.begin < orders.end && orders.end > mesh::piece_count_for(orders.facts.size)) std::abort();
    } catch (const mesh::Error&) {
    }
    if (plan.piece_count() > (1U << 20)) std::abort();
  }
  return 0;
}
