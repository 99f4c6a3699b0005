// Where a get and a transfer are, as `meshfile status` tells it: values that programs compare, and their words for
// people and for JSON. Pure; any thread.
#pragma once

#include <cstdint>

namespace mesh {

/// Of a file that comes or goes. From `seeding` to `guest` all of it is here: they only send. Numbers stay what they
/// are.
enum class TransferState : std::uint8_t {
  unknown,  ///< not told
  queued,
  connecting,
  hashing,
  checking,
  copying,
  paused,
  downloading,
  streaming,
  placing,
  seeding,
  foreign,    ///< to clients of `meshfile torrent`
  guest,      ///< to those of `meshfile torrent --guests`
  comparing,  ///< with other files here that may have some of its bytes
};
[[nodiscard]] constexpr bool is_known(TransferState state) { return state <= TransferState::comparing; }
[[nodiscard]] constexpr bool is_seeding(TransferState state) {
  return state >= TransferState::seeding && state <= TransferState::guest;
}
[[nodiscard]] const char* to_text(TransferState state);

enum class GetState : std::uint8_t { unknown, queued, running, paused, stopping, done, failed, stopped };
[[nodiscard]] constexpr bool is_known(GetState state) { return state <= GetState::stopped; }
[[nodiscard]] const char* to_text(GetState state);

}  // namespace mesh
