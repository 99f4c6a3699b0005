// A place for volumes, as its owner describes it: in a YAML file of mosaic's form (its doc/config.txt), or in [volumes]
// of a configuration file. Pure, but for reading the file.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace mesh {

/// How volumes are made. `automatic`: each in the best way that the place has.
enum class PlaceType { automatic, reflink, btrfs, qcow2, loop, plain };
[[nodiscard]] const char* name_of(PlaceType type);
/// Also by mosaic's own name (fsimg is loop). Throws Error(usage).
[[nodiscard]] PlaceType read_place_type(std::string_view text);

struct PlaceOptions {
  std::string said_in;  ///< for messages
  PlaceType type = PlaceType::automatic;
  std::filesystem::path location;   ///< absolute
  std::string default_fs = "ext4";  ///< of new volumes with a file system
  std::string metadata;             ///< a directory below the location; empty: the location itself (layout: fs)
};

/// Sets one key; `base`: what a relative location is relative to. Throws Error(usage) for what no place has.
void set_place_key(PlaceOptions& options, const std::string& key, const std::string& value,
                   const std::filesystem::path& base);
/// Throws Error(usage), with the file's name.
[[nodiscard]] PlaceOptions read_place(const std::filesystem::path& file);
/// Where the configuration says nothing: of this user.
[[nodiscard]] std::filesystem::path default_location();

}  // namespace mesh
