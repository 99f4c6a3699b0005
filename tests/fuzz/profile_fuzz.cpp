// What another node says is read first of a content.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "core/read_profile.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mesh;
  if (size < 4) return 0;
  const std::int64_t length = (std::int64_t{data[0]} << 32 | data[1] << 16 | data[2]) + 1;
  const std::string_view told(reinterpret_cast<const char*>(data) + 3, size - 3);
  const auto runs = read_profile(told, length);
  if (!runs) return 0;
  std::int64_t sum = 0;
  ProfileRecorder recorder;
  for (const auto& run : *runs) {
    if (run.first < 0 || run.count <= 0 || (run.first + run.count - 1) * profile_grain >= length) std::abort();
    sum += run.count;
    recorder.note(run.first * profile_grain, run.count * profile_grain);
  }
  const auto again = tell_profile(*runs);
  if (sum != grains_of(*runs) || again.size() > told.size() || read_profile(again, length) != *runs) std::abort();
  // No grain twice: what was recorded is all of it, however it was cut.
  if (!recorder.is_full() && grains_of(recorder.runs()) != sum) std::abort();
  if (tell_profile(recorder.runs()).size() > most_profile_bytes) std::abort();
  return 0;
}
