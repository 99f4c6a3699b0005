// Which files travel together, and what a list of them is called.
#include "core/pack.h"

#include <algorithm>
#include <set>

#include "test.h"

using namespace mesh;

namespace {

std::vector<PackFile> tree(int directories, int files, std::int64_t size) {
  std::vector<PackFile> out;
  for (int d = 0; d < directories; ++d)
    for (int f = 0; f < files; ++f)
      out.push_back(
          {"t/d" + std::to_string(1000 + d) + "/f" + std::to_string(10000 + f), size, 1'700'000'000'000'000'000});
  return out;
}

std::int64_t bytes(const std::vector<PackFile>& files, std::pair<std::size_t, std::size_t> range) {
  std::int64_t out = 0;
  for (auto i = range.first; i < range.second; ++i) out += files[i].size;
  return out;
}

}  // namespace

TEST_CASE("packs: few files, or few bytes, are none") {
  CHECK(cut_packs({}).empty());
  CHECK(cut_packs(tree(1, 3, 4 << 20)).empty());
  CHECK(cut_packs(tree(1, 4, 1 << 20)).size() == 1);
  CHECK(cut_packs(tree(10, 100, 4000)).empty());
  CHECK(cut_packs(tree(10, 100, 5000)).size() == 1);
}

TEST_CASE(
    "packs: each within the limits, one after another, and none is left out but for a last one that is too small") {
  const PackLimits limits;
  for (const auto& files :
       {tree(40, 50, 32 << 10), tree(1, 40'000, 4 << 10), tree(2000, 3, 20 << 10), tree(3, 100, 4 << 20)}) {
    const auto packs = cut_packs(files);
    REQUIRE_FALSE(packs.empty());
    std::size_t at = 0;
    for (const auto& range : packs) {
      CHECK(range.first == at);
      at = range.second;
      const std::span<const PackFile> part(files.data() + range.first, range.second - range.first);
      CHECK(pack_fault(part).empty());
      CHECK(bytes(files, range) <= limits.most_bytes);
      CHECK(bytes(files, range) >= limits.least_bytes);
    }
    CHECK(bytes(files, {at, files.size()}) < limits.least_bytes);
  }
}

TEST_CASE("packs: a difference in one directory leaves most packs as they are") {
  const auto files = tree(400, 50, 32 << 10);  // 640 MB
  auto other = files;
  std::erase_if(other, [](const PackFile& file) { return file.path.starts_with("t/d1050/"); });
  const auto ids = [](const std::vector<PackFile>& list) {
    std::set<PackId> out;
    for (const auto& [begin, end] : cut_packs(list)) out.insert(pack_id({list.data() + begin, end - begin}));
    return out;
  };
  const auto one = ids(files);
  const auto two = ids(other);
  std::vector<PackId> same;
  std::ranges::set_intersection(one, two, std::back_inserter(same));
  CHECK(one.size() >= 10);
  CHECK(same.size() + 3 >= one.size());
}

TEST_CASE("packs: an id says which files, which sizes, and of when") {
  const auto files = tree(2, 20, 5000);
  CHECK(pack_id(files) == pack_id(tree(2, 20, 5000)));
  for (const auto& change : std::vector<std::function<void(PackFile&)>>{
           [](PackFile& f) { f.path += "x"; }, [](PackFile& f) { ++f.size; }, [](PackFile& f) { --f.mtime; }}) {
    auto other = files;
    change(other[7]);
    CHECK(pack_id(other) != pack_id(files));
  }
  // What moves from one field to the next does not stay the same.
  CHECK(pack_id(std::vector<PackFile>{{"a", 1, 2}, {"b", 1, 2}}) !=
        pack_id(std::vector<PackFile>{{"ab", 1, 2}, {"", 1, 2}}));
}

TEST_CASE("packs: what comes from the network is a list of small files in order, or none") {
  const auto good = tree(2, 20, 5000);
  CHECK(pack_fault(good).empty());
  const auto faulty = [&](const std::function<void(std::vector<PackFile>&)>& spoil) {
    auto files = good;
    spoil(files);
    return !pack_fault(files).empty();
  };
  CHECK(faulty([](auto& files) { files.clear(); }));
  CHECK(faulty([](auto& files) { std::swap(files[3], files[4]); }));
  CHECK(faulty([](auto& files) { files[3] = files[4]; }));
  CHECK(faulty([](auto& files) { files[0].path = "../x"; }));
  CHECK(faulty([](auto& files) { files[0].path = "/etc/shadow"; }));
  CHECK(faulty([](auto& files) { files[0].size = -1; }));
  CHECK(faulty([](auto& files) { files[0].size = packed_file_bytes + 1; }));
  CHECK(faulty([](auto& files) { files = tree(1, 8193, 1); }));
  CHECK(faulty([](auto& files) { files = tree(1, 17, packed_file_bytes); }));

  CHECK(are_indices({}, 0));
  const std::vector<std::uint32_t> two{1, 3};
  CHECK(are_indices(two, 4));
  CHECK_FALSE(are_indices(two, 3));
  CHECK_FALSE(are_indices(std::vector<std::uint32_t>{3, 1}, 4));
  CHECK_FALSE(are_indices(std::vector<std::uint32_t>{1, 1}, 4));
  CHECK(pack_size(good, two) == 38 * 5000);
}

TEST_CASE("packs: they are called after the directory that all of a pack lies in") {
  CHECK(pack_name(tree(1, 2, 1)) == "t/d1000");
  CHECK(pack_name(tree(2, 2, 1)) == "t");
  CHECK(pack_name(std::vector<PackFile>{{"a/x", 1, 1}, {"b/x", 1, 1}}) == ".");
  CHECK(pack_name(std::vector<PackFile>{{"a/b", 1, 1}, {"a/bc/x", 1, 1}}) == "a");
}
