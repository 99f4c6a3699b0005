#include "core/ask_tree.h"

#include "test.h"

using namespace mesh;

namespace {

const AskTree::Time begin = AskTree::Time() + std::chrono::hours(1);

}  // namespace

TEST_CASE("a node tells a few, and each of these a few more") {
  AskTree tree(3);
  std::map<std::string, int> children;
  std::map<std::string, int> depth;
  for (int i = 0; i < 200; ++i) {
    const auto name = "g" + std::to_string(i);
    const auto parent = tree.parent_of(name, begin);
    ++children[parent.value_or("root")];
    // Whom it asks came before it.
    if (parent) REQUIRE(depth.contains(*parent));
    depth[name] = parent ? depth[*parent] + 1 : 1;
    CHECK(tree.parent_of(name, begin) == parent);
  }
  for (const auto& [name, count] : children) CHECK(count <= 3);
  for (const auto& [name, levels] : depth) CHECK(levels <= 5);
}

TEST_CASE("who was sent to one that tells nothing asks the node itself, and nobody else is sent there") {
  AskTree tree(1);
  CHECK_FALSE(tree.parent_of("a", begin));
  CHECK(tree.parent_of("b", begin) == "a");
  tree.failed("x", "a");  // who was not sent there has no say
  tree.failed("b", "x");
  CHECK(tree.parent_of("b", begin) == "a");
  tree.failed("b", "a");
  CHECK_FALSE(tree.parent_of("b", begin));
  CHECK(tree.parent_of("c", begin) == "b");
}

TEST_CASE("a tree that nobody comes to is forgotten") {
  AskTree tree(1);
  CHECK_FALSE(tree.parent_of("a", begin));
  CHECK(tree.parent_of("b", begin + std::chrono::seconds(59)) == "a");
  CHECK_FALSE(tree.parent_of("c", begin + std::chrono::seconds(120)));
  for (std::size_t i = 0; i < AskTree::most_askers + 10; ++i)
    static_cast<void>(tree.parent_of("many" + std::to_string(i), begin + std::chrono::seconds(120)));
}
