#include "core/node_ranges.h"

#include "core/error.h"
#include "test.h"

using namespace mesh;

TEST_CASE("lists of nodes: as minimega writes them") {
  using Names = std::vector<std::string>;
  CHECK(expand_nodes("n1") == Names{"n1"});
  CHECK(expand_nodes("n1,n2,,head") == Names{"n1", "n2", "head"});
  CHECK(expand_nodes("n[1-3,7],head") == Names{"n1", "n2", "n3", "n7", "head"});
  CHECK(expand_nodes("n[08-10]x") == Names{"n08x", "n09x", "n10x"});
  CHECK(expand_nodes("r[1-2]n[1-2]") == Names{"r1n1", "r2n1", "r1n2", "r2n2"});
  CHECK(expand_nodes("").empty());
  for (const char* wrong : {"n[1-2", "n1]", "n[2-1]", "n[]", "n[a]", "n[1-]", "n[[1]]", "n[-3]", "n[1-20000]",
                            "n[1-999][1-999]", "n[99999999999]"}) {
    INFO(wrong);
    CHECK_THROWS_AS(expand_nodes(wrong), Error);
  }
}
