// What hostile getters can do to a source's book of offers: any order of joining, claiming, losing and leaving, with
// pieces that do not exist. Nothing is offered to who is not there or has it, nor twice at once, nor what does not
// exist.
#include <cstdint>
#include <cstdlib>
#include <map>
#include <set>

#include "core/super_seed_policy.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::size_t at = 0;
  const auto byte = [&]() -> int { return at < size ? data[at++] : 0; };
  const int pieces = byte() % 40;
  mesh::SuperSeedPolicy book(pieces, std::int64_t{1} << (byte() % 24), 1);
  mesh::SuperSeedPolicy::Time now{std::chrono::hours(1)};
  std::map<mesh::SuperSeedPolicy::Getter, std::set<int>> had;
  while (at < size) {
    const auto kind = byte();
    const auto getter = static_cast<mesh::SuperSeedPolicy::Getter>(byte() % 6);
    const int piece = byte() - 100;
    now += std::chrono::milliseconds(byte() * 20);
    switch (kind % 6) {
      case 0: {
        if (had.contains(getter)) break;  // a connection joins once
        std::vector<bool> have(static_cast<std::size_t>(pieces));
        auto& its = had[getter];
        for (int i = 0; i < pieces; ++i)
          if ((byte() & 3) == 0) {
            have[static_cast<std::size_t>(i)] = true;
            its.insert(i);
          }
        mesh::SuperSeedPolicy::Reading reading;
        reading.in_order = (kind & 64) != 0;
        if ((kind & 32) != 0) reading.from = byte() - 20;
        if ((kind & 16) != 0) reading.window = byte() - 20;
        book.join(getter, have, now, reading);
        break;
      }
      case 1:
        book.leave(getter);
        had.erase(getter);
        break;
      case 2:
        book.has(getter, piece, now);
        if (const auto it = had.find(getter); it != had.end()) it->second.insert(piece);
        break;
      case 3:
        book.lost(getter, piece);
        if (const auto it = had.find(getter); it != had.end()) it->second.erase(piece);
        break;
      case 4:
        static_cast<void>(book.sent(getter, piece * 1000, now));
        break;
      default:
        break;
    }
    std::set<std::pair<mesh::SuperSeedPolicy::Getter, int>> offered;
    for (const auto& offer : book.next(now)) {
      const auto it = had.find(offer.to);
      if (it == had.end() || offer.piece < 0 || offer.piece >= pieces || it->second.contains(offer.piece) ||
          !offered.emplace(offer.to, offer.piece).second)
        std::abort();
    }
    if (book.unoffered() < 0 || book.unoffered() > pieces) std::abort();
  }
  return 0;
}
