#include "core/read_profile.h"

#include <limits>

#include "test.h"

using namespace mesh;

namespace {

constexpr std::int64_t kb = 1024;
using Runs = std::vector<ProfileRun>;

}  // namespace

TEST_CASE("a profile has each grain once, in the order in which it was read first") {
  ProfileRecorder recorder;
  recorder.note(0, 512);
  recorder.note(512, 512);                   // the same grain
  recorder.note(65'536, 64 * kb);            // the next one
  recorder.note(1000 * 65'536, 1);           // elsewhere
  recorder.note(999 * 65'536, 3 * 64 * kb);  // on both sides of it
  recorder.note(0, 5 * 64 * kb);
  CHECK(recorder.runs() == Runs{{0, 2}, {1000, 1}, {999, 1}, {1001, 1}, {2, 3}});
  CHECK(grains_of(recorder.runs()) == 8);
  recorder.note(0, 2000 * 64 * kb);
  CHECK(grains_of(recorder.runs()) == 2000);
  CHECK_FALSE(recorder.is_of_use());  // too few jumps
  recorder.note(0, 0);
  CHECK(grains_of(recorder.runs()) == 2000);
}

TEST_CASE("a copy, and a look into the middle, are no profile") {
  ProfileRecorder copy;
  for (int i = 0; i < 1000; ++i) copy.note(i * 100 * kb, 100 * kb);
  CHECK(copy.runs().size() == 1);
  CHECK_FALSE(copy.is_of_use());
  ProfileRecorder middle;
  ProfileRecorder boot;
  boot.note(0, 4 * kb);
  for (int i = 9; i > 1; --i) {
    middle.note(i * 10 * 65'536, 1);
    boot.note(i * 10 * 65'536, 1);
  }
  CHECK_FALSE(middle.is_of_use());
  CHECK(boot.is_of_use());
}

TEST_CASE("a profile takes 64 KB at most") {
  ProfileRecorder recorder;
  for (std::int64_t i = 0; i < 100'000 && !recorder.is_full(); ++i) recorder.note((i * 7919 % 100'003) * 2 * 65'536, 1);
  REQUIRE(recorder.is_full());
  const auto told = tell_profile(recorder.runs());
  CHECK(told.size() <= most_profile_bytes);
  CHECK(told.size() > most_profile_bytes - 100);
  CHECK(read_profile(told, 200'006 * 65'536LL) == recorder.runs());
  recorder.note(1, 1);
  CHECK(tell_profile(recorder.runs()) == told);
}

TEST_CASE("what is told is a profile of a content of that size, or nothing") {
  const Runs runs{{0, 2}, {1000, 1}, {999, 1}, {3, 7}};
  const auto told = tell_profile(runs);
  CHECK(read_profile(told, 1001 * 65'536) == runs);
  CHECK(read_profile(told, 1000 * 65'536 + 1) == runs);
  CHECK_FALSE(read_profile(told, 1000 * 65'536));
  CHECK_FALSE(read_profile(told, 0));
  CHECK_FALSE(read_profile("", 1001 * 65'536));
  CHECK_FALSE(read_profile("\x02" + told.substr(1), 1001 * 65'536));
  CHECK_FALSE(read_profile(told.substr(0, told.size() - 1), 1001 * 65'536));
  CHECK(read_profile(told.substr(0, 1), 1)->empty());
  CHECK_FALSE(read_profile(tell_profile(Runs{{5, 2}, {6, 1}}), 1001 * 65'536));  // twice
  CHECK_FALSE(read_profile(tell_profile(Runs{{5, 2}, {6, 0}}), 1001 * 65'536));  // nothing
  CHECK_FALSE(read_profile(tell_profile(Runs{{-1, 2}}), 1001 * 65'536));         // before the beginning
  CHECK_FALSE(read_profile(std::string("\x01") + std::string(20, '\xff'), 1001 * 65'536));
  constexpr auto most = std::numeric_limits<std::int64_t>::max();
  // The largest numbers that can be written: as a distance, and as a length.
  const std::string largest = std::string(8, '\xff') + '\x7f';
  CHECK_FALSE(read_profile("\x01" + largest + "\x01", 1001 * 65'536));
  CHECK_FALSE(read_profile(std::string("\x01\x02", 2) + largest, 1001 * 65'536));
  CHECK_FALSE(read_profile(std::string("\x01\x02", 2) + largest, most));
  CHECK_FALSE(read_profile(std::string("\x01") + std::string(most_profile_bytes, '\x01'), most));
}
