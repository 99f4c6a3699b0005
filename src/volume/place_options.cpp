#include "volume/place_options.h"

#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <utility>

#include "core/error.h"
#include "core/format.h"
#include "core/mesh_path.h"

namespace mesh {
namespace {

namespace fs = std::filesystem;

constexpr std::array types{
    std::pair{"auto", PlaceType::automatic}, std::pair{"reflink", PlaceType::reflink},
    std::pair{"btrfs", PlaceType::btrfs},    std::pair{"qcow2", PlaceType::qcow2},
    std::pair{"loop", PlaceType::loop},      std::pair{"plain", PlaceType::plain},
};

Error bad(const std::string& text) { return {Status::usage, text}; }

}  // namespace

const char* name_of(PlaceType type) {
  return std::ranges::find(types, type, &std::pair<const char*, PlaceType>::second)->first;
}

PlaceType read_place_type(std::string_view text) {
  if (text == "fsimg") return PlaceType::loop;
  for (const auto& [name, type] : types)
    if (text == name) return type;
  if (text == "ploop" || text == "thin")
    throw bad("type " + std::string(text) + " is not one of meshvol's: auto, reflink, btrfs, qcow2, loop or plain");
  throw bad("type '" + printable(text) + "' is none: auto, reflink, btrfs, qcow2, loop or plain");
}

void set_place_key(PlaceOptions& options, const std::string& key, const std::string& value, const fs::path& base) {
  if (key == "type") {
    options.type = read_place_type(value);
  } else if (key == "location") {
    if (value.empty()) throw bad("location is empty");
    options.location = (base / value).lexically_normal();
    if (!options.location.has_filename()) options.location = options.location.parent_path();
  } else if (key == "default_fs") {
    const auto is_plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; };
    if (value.empty() || value.size() > 32 || !std::ranges::all_of(value, is_plain))
      throw bad("default_fs '" + printable(value) + "' is no file system's name");
    options.default_fs = value;
  } else if (key == "layout.fs") {
    if (!is_mesh_path(value)) throw bad("layout: fs: " + printable(value) + ": " + std::string(path_fault(value)));
    options.metadata = value;
  } else if (key == "volumeMap") {
    throw bad("volumeMap is not taken: a volume's name may have slashes");
  } else {
    throw bad("unknown key '" + printable(key) + "'");
  }
}

PlaceOptions read_place(const fs::path& file) {
  constexpr std::size_t most = 64 * 1024;
  PlaceOptions out;
  out.said_in = file.string();
  std::error_code ec;
  const auto base = fs::absolute(file, ec).parent_path();
  std::ifstream in(file);
  if (!in) throw bad(printable(file.string()) + ": cannot be read");
  std::string text(most, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(std::max<std::streamsize>(in.gcount(), 0)));
  if (text.size() == most) throw bad(printable(file.string()) + ": is larger than 64 KiB");
  try {
    const auto scalar = [](const YAML::Node& node, const std::string& key) {
      if (!node.IsScalar()) throw bad(key + " is to be a text");
      return node.Scalar();
    };
    const auto root = YAML::Load(text);
    if (!root.IsMap()) throw bad("no keys in it (type, location, default_fs, layout)");
    bool has_type = false;
    for (const auto& item : root) {
      const auto key = scalar(item.first, "a key");
      has_type = has_type || key == "type";
      if (key != "layout") {
        set_place_key(out, key, scalar(item.second, key), base);
        continue;
      }
      if (!item.second.IsMap()) throw bad("layout is to have keys of its own (fs)");
      for (const auto& inner : item.second) {
        const auto part = scalar(inner.first, "a key of layout");
        set_place_key(out, "layout." + part, scalar(inner.second, "layout: " + part), base);
      }
    }
    if (!has_type) throw bad("no 'type' in it");
    if (out.location.empty()) throw bad("no 'location' in it");
  } catch (const Error& error) {
    throw bad(printable(file.string()) + ": " + error.what());
  } catch (const YAML::Exception& error) {
    throw bad(printable(file.string()) + ": line " + std::to_string(error.mark.line + 1) + ": " + printable(error.msg));
  }
  return out;
}

fs::path default_location() {
  if (::geteuid() == 0) return "/var/lib/meshvol";
  if (const char* data = std::getenv("XDG_DATA_HOME"); data != nullptr && data[0] == '/')
    return fs::path(data) / "mesh/volumes";
  const char* home = std::getenv("HOME");
  return fs::path(home == nullptr || home[0] != '/' ? "/nonexistent" : home) / ".local/share/mesh/volumes";
}

}  // namespace mesh
