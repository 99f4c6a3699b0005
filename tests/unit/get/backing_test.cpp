// Which images name which backing files.
#include "get/backing.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "test.h"

using namespace mesh;
namespace fs = std::filesystem;

namespace {

std::string big_endian(std::uint64_t value, int bytes) {
  std::string out;
  for (int i = bytes - 1; i >= 0; --i) out += static_cast<char>(value >> (8 * i));
  return out;
}

/// The beginning of a qcow2 image (version 3) that lies on `backing`.
std::string image_on(const std::string& backing) {
  std::string out = "QFI\xfb" + big_endian(3, 4) + big_endian(backing.empty() ? 0 : 512, 8) +
                    big_endian(backing.size(), 4) + big_endian(16, 4) + big_endian(1 << 20, 8);
  out.resize(512, '\0');
  return out + backing;
}

}  // namespace

TEST_CASE("backing: the images that name one, whatever else there is") {
  std::string name = (fs::temp_directory_path() / "mesh-backing-XXXXXX").string();
  REQUIRE(::mkdtemp(name.data()) != nullptr);
  const fs::path root = name;
  const std::shared_ptr<void> clean(nullptr, [&](void*) { fs::remove_all(root); });
  fs::create_directory(root / "vm");
  const PathGate gate(root, -1, {});
  std::map<std::string, std::string> bytes = {{"vm/a", image_on("base.img")},
                                              {"vm/b", image_on("")},
                                              {"vm/c", image_on("../../outside")},
                                              {"vm/d", std::string(4096, 'x')},
                                              {"vm/e", "short"},
                                              {"vm/seen", image_on("base.img")},
                                              {"vm/cut", image_on("base.img").substr(0, 515)}};
  std::vector<Planned> files;
  for (const auto& [path, text] : bytes) {
    std::ofstream(root / path) << text;
    Planned planned;
    planned.file.entry.path = path;
    planned.file.entry.kind = Kind::file;
    planned.file.entry.size = static_cast<std::int64_t>(text.size());
    planned.no_image = path == "vm/seen";
    files.push_back(planned);
  }
  Planned missing = files.front();
  missing.file.entry.path = "vm/none";
  files.push_back(missing);
  std::vector<const Planned*> all;
  for (const auto& planned : files) all.push_back(&planned);
  const auto found = find_backed(gate, all);
  REQUIRE(found.size() == 2);
  CHECK(found[0].path == "vm/a");
  CHECK(found[0].backing.path == "vm/base.img");
  CHECK(found[1].path == "vm/c");
  CHECK(found[1].backing.path.empty());
  CHECK(found[1].backing.fault.find("../../outside") == 0);
}
