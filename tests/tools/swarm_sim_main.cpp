// How the time of the last getter grows with their number, in simulated swarms: swarm_sim [GETTERS]...
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "swarm_sim.h"

int main(int argc, char** argv) {
  using namespace mesh::test;
  std::vector<int> sizes{10, 30, 100, 300, 1000, 3000, 10000};
  if (argc > 1) {
    sizes.clear();
    for (int i = 1; i < argc; ++i) sizes.push_back(std::max(1, std::atoi(argv[i])));
  }
  std::puts("getters  pieces  case            median/ideal  last/ideal  source sent");
  for (const int n : sizes) {
    for (const char* kind : {"equal", "a fifth slow", "over one ideal"}) {
      std::vector<SimNode> nodes(static_cast<std::size_t>(n) + 1);
      std::size_t fast = nodes.size();
      if (kind[0] == 'a') {
        fast = 1 + static_cast<std::size_t>(n) * 4 / 5;
        for (std::size_t i = fast; i < nodes.size(); ++i) nodes[i].up = nodes[i].down = 0.2;
      }
      if (kind[0] == 'o')
        for (std::size_t i = 1; i < nodes.size(); ++i) nodes[i].arrives = static_cast<double>(i - 1) / n;
      SimOptions options;
      options.pieces = 1024;
      auto result = simulate(nodes, options);
      std::vector<double> took(result.took.begin(), result.took.begin() + static_cast<std::ptrdiff_t>(fast) - 1);
      std::ranges::sort(took);
      std::printf("%7d  %6d  %-14s  %12.3f  %10.3f  %11.2f\n", n, options.pieces, kind, took[took.size() / 2],
                  took.back(), result.source_sent);
      std::fflush(stdout);
    }
  }
}
