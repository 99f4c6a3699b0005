// What a place knows of its volumes: one JSON file each, which is whole or not there (written beside, synced, renamed).
// Blocks, briefly.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/entry.h"
#include "disk/fd.h"

namespace mesh {

/// What a volume, or what one hangs on, is on the disk.
enum class Form {
  raw,        ///< a file that is the disk
  qcow2,      ///< a file with the disk in it, mostly on top of another one
  subvolume,  ///< of btrfs
  overlay,    ///< a directory over a tree (overlayfs)
  directory,
};
[[nodiscard]] const char* name_of(Form form);
[[nodiscard]] inline bool is_disk(Form form) { return form == Form::raw || form == Form::qcow2; }

struct Volume {
  std::string name;
  Form form = Form::raw;
  bool has_fs = false;      ///< made with a file system, or a tree: it is to be mounted
  std::int64_t size = 0;    ///< of the disk, bytes; 0 for trees
  std::int64_t made = 0;    ///< nanoseconds since the epoch
  std::string from{};       ///< what it was cloned of, as it was said
  std::string base{};       ///< the id of what it hangs on
  std::string under{};      ///< the id of what its own bytes are to become while a clone is made of it; else empty
  bool is_dropped = false;  ///< it is being removed
  std::int64_t user = 0;    ///< whose it is
  /// As it was made, while nobody has written to it.
  FileStamp fresh{};
  /// Over an image of the mesh that was not here: which version, and where it is read.
  std::optional<FileEntry> lazy{};
  std::string lazy_at{};
};

/// What volumes hang on: an image or a tree as it was when it was cloned, and nobody writes to.
struct Base {
  std::string id;
  Form form = Form::raw;
  std::int64_t size = 0;
  std::int64_t made = 0;
  std::string from{};     ///< "mesh:vm/base.qcow2", "tar:rootfs.tar", "volume:web"
  std::string backing{};  ///< the id of what this one lies on
  std::string content{};  ///< of a file of the mesh: its content id, where its node had hashed it
  FileStamp of{};         ///< the file that it was taken of
};

/// How a volume is attached.
struct Attachment {
  std::string volume;
  std::string how;   ///< "loop", "export", "file"
  std::string path;  ///< the device or file that was printed
  std::int64_t process = 0;
  std::string by;  ///< the mount whose vdi/mount had it attached; empty: somebody by a command
};

/// A file name for any volume's name.
[[nodiscard]] std::string record_name(std::string_view volume);

/// Throw Error(failed), with the file's name; reading: nothing where there is none.
void write_record(const std::filesystem::path& file, const Volume& volume);
void write_record(const std::filesystem::path& file, const Base& base);
void write_record(const std::filesystem::path& file, const Attachment& attachment);
[[nodiscard]] std::optional<Volume> read_volume(const std::filesystem::path& file);
[[nodiscard]] std::optional<Base> read_base(const std::filesystem::path& file);
[[nodiscard]] std::optional<Attachment> read_attachment(const std::filesystem::path& file);

/// Removes a file for good: its directory is synced. What is not there is no fault.
void remove_file(const std::filesystem::path& file);
void sync_directory(const std::filesystem::path& directory);
/// All that is below it, and what else its file system has not written yet.
void sync_tree(const std::filesystem::path& directory);
void sync_file(const std::filesystem::path& file);

}  // namespace mesh
