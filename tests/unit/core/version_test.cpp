#include "core/version.h"

#include <array>

#include "test.h"

using namespace mesh;

namespace {
const ContentId low = *ContentId::from(std::string(32, '\1'));
const ContentId high = *ContentId::from(std::string(32, '\2'));
Copy file(NodeKey node, std::int64_t mtime, const ContentId* id, bool head = false) {
  return {node, Kind::file, 10, mtime, 0644, id, {}, head};
}
}  // namespace

TEST_CASE("versions: the newest wins, hashed or not") {
  const std::array copies = {file(1, 100, &high), file(2, 200, &low), file(3, 150, &high)};
  CHECK(choose_version(copies, {}).chosen->node == 2);
  const std::array candidate = {file(1, 100, &high), file(2, 200, nullptr)};
  CHECK(choose_version(candidate, {}).chosen->node == 2);
  CHECK(choose_version(candidate, {}).to_hash.empty());
}

TEST_CASE("versions: a tie goes to the larger content id, once all are hashed") {
  const std::array unhashed = {file(1, 100, nullptr), file(2, 100, &low), file(3, 100, nullptr)};
  CHECK(choose_version(unhashed, {}).to_hash == std::vector<NodeKey>{1, 3});
  CHECK_FALSE(choose_version(unhashed, {}).chosen);
  const std::array hashed = {file(1, 100, &low), file(2, 100, &high), file(3, 100, &low)};
  CHECK(choose_version(hashed, {}).chosen->node == 2);
}

TEST_CASE("versions: --head over the newest, --from over both") {
  const std::array copies = {file(1, 100, &low, true), file(2, 200, &high), file(3, 50, &high, true)};
  CHECK(choose_version(copies, {}).chosen->node == 1);
  CHECK(choose_version(copies, {.from = 2, .strict = false}).chosen->node == 2);
  CHECK_FALSE(choose_version(copies, {.from = 9, .strict = false}).chosen);
}

TEST_CASE("versions: --strict wants one") {
  const std::array two = {file(1, 100, &low), file(2, 200, &high)};
  CHECK(choose_version(two, {.from = {}, .strict = true}).conflict);
  const std::array same = {file(1, 100, &low), file(2, 200, &low)};
  CHECK_FALSE(choose_version(same, {.from = {}, .strict = true}).conflict);
  const std::array unhashed = {file(1, 100, &low), file(2, 200, nullptr)};
  CHECK(choose_version(unhashed, {.from = {}, .strict = true}).to_hash == std::vector<NodeKey>{2});
}

TEST_CASE("versions: a link out of the files dir is found, never chosen over a file") {
  Copy outside{1, Kind::outside, 0, 300, 0, nullptr, "/data/x", false};
  const std::array both = {outside, file(2, 100, &low)};
  CHECK(choose_version(both, {}).chosen->node == 2);
  const std::array alone = {outside};
  CHECK(choose_version(alone, {}).chosen->kind == Kind::outside);
}

TEST_CASE("versions: every order of the copies gives the same choice") {
  std::vector<Copy> copies = {file(1, 100, &low),
                              file(2, 100, &high),
                              file(3, 90, &high),
                              {4, Kind::link, 0, 100, 0, nullptr, "x", false},
                              {5, Kind::directory, 0, 100, 0, nullptr, {}, false}};
  std::ranges::sort(copies, {}, &Copy::node);
  do {
    CHECK(choose_version(copies, {}).chosen->node == 2);
  } while (std::ranges::next_permutation(copies, {}, &Copy::node).found);
}

TEST_CASE("versions: --strict has nothing against one copy that nobody has hashed") {
  const std::array alone = {file(1, 100, nullptr)};
  const auto choice = choose_version(alone, {std::nullopt, true});
  CHECK_FALSE(choice.conflict);
  CHECK(choice.chosen);
}

TEST_CASE("versions: a listing counts what is certain to differ, and says where it may be more") {
  const auto sized = [](std::int64_t size, std::int64_t mtime, const ContentId* id) {
    auto copy = file(1, mtime, id);
    copy.size = size;
    return copy;
  };
  const auto count = [](std::vector<Copy> copies) {
    const auto n = count_versions(copies);
    return std::pair(n.certain, n.unsure);
  };
  CHECK(count({}) == std::pair(0, false));
  CHECK(count({sized(10, 1, &low), sized(10, 2, &low)}) == std::pair(1, false));
  CHECK(count({sized(10, 1, &low), sized(10, 2, &high)}) == std::pair(2, false));
  CHECK(count({sized(10, 1, nullptr), sized(11, 1, nullptr)}) == std::pair(2, false));
  CHECK(count({sized(10, 1, nullptr), sized(10, 1, nullptr)}) == std::pair(1, false));
  CHECK(count({sized(10, 1, nullptr), sized(10, 2, nullptr)}) == std::pair(1, true));
  CHECK(count({sized(10, 1, &low), sized(10, 1, nullptr)}) == std::pair(1, false));
  CHECK(count({sized(10, 1, &low), sized(10, 2, nullptr)}) == std::pair(1, true));
  auto link = file(1, 1, nullptr);
  link.kind = Kind::link;
  link.target = "a";
  CHECK(count({sized(10, 1, &low), link}) == std::pair(2, false));
}
