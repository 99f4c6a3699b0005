// What is done with volumes: made, cloned, removed, grown, mounted, attached, made files of the mesh. Everything is
// checked before anything is changed; a command that is killed leaves nothing half (volume/place.h). Blocks; for one
// thread. All throw Error: usage, not_found, refused (somebody uses it, or the name is taken), failed.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/entry.h"
#include "core/qcow2.h"
#include "disk/fd.h"
#include "volume/place.h"

namespace mesh {

/// A file of the mesh that is here, open for reading.
struct MeshImage {
  std::string path;  ///< its mesh path
  Fd fd;
  FileEntry entry;  ///< with the content id, where the node knows it
};
/// Opens what lies at a mesh path; nothing where it is not here. Throws Error.
using OpenImage = std::function<std::optional<MeshImage>(const std::string& path)>;
/// Unpacks an archive below an empty directory, and returns the name of its top-level directory.
using Unpack = std::function<std::string(int archive, const std::filesystem::path& into)>;

/// What an image is: raw or qcow2, and how large the disk in it. Throws Error(failed) for what is neither.
struct ImageKind {
  Form form = Form::raw;
  std::int64_t size = 0;
};
[[nodiscard]] ImageKind image_kind(int fd, const std::string& shown);

class Volumes {
 public:
  using Say = std::function<void(const std::string&)>;
  Volumes(Place& place, FilesDir files, OpenImage open, Say say)
      : place_(place), files_(std::move(files)), open_(std::move(open)), say_(std::move(say)) {}

  Volume make_disk(const std::string& name, std::int64_t size);
  Volume make_fs(const std::string& name, std::int64_t size);
  Volume clone(const Volume& of, const std::string& name);
  Volume clone(const MeshImage& image, const std::string& name);
  /// Over the image where it is read as it arrives, an absolute path, which is always that version of it.
  Volume clone_lazily(const FileEntry& image, const std::string& at, const std::string& name);
  Volume clone_archive(const MeshImage& archive, const Unpack& unpack, const std::string& name);
  void drop(const std::string& name);
  Volume resize(const std::string& name, std::int64_t size);

  /// Whether what clone(image) does can be done here.
  void check_clone_of_image() const { static_cast<void>(way_to_clone_disk()); }
  void check_clone_of_archive() const;

  /// Its disk as one file, which is made, of the form of what it was cloned from: `take` is given that, open, and its
  /// size in bytes. Nobody may use the volume meanwhile.
  void flatten(const std::string& name, const std::function<void(int file, std::int64_t size)>& take);

  /// Those over the mounted mesh whose image is whole here by now, and which nobody uses, lie on that from then on.
  void settle();

  // As root:
  void mount(const std::string& name, const std::string& directory, const std::string& options);
  void mount_metadata(const std::string& directory, const std::string& options);
  /// Everywhere, or where it is said.
  void unmount(const std::string& name, const std::optional<std::string>& directory);
  void unmount_metadata(const std::optional<std::string>& directory);

  /// Returns the device, or the file, that is its disk.
  /// `by`: as in its record.
  std::string attach(const std::string& name, const std::string& by = {});
  void detach(const std::string& name);

 private:
  enum class Way { reflink, overlay, copy };
  [[nodiscard]] Way way_to_clone_disk() const;
  [[nodiscard]] std::pair<Place::Making, Fd> begin(const std::string& name);
  Volume finish(Volume volume, Place::Making making);
  [[nodiscard]] std::optional<MeshImage> backing_of(const MeshImage& image) const;
  [[nodiscard]] static std::string backing_name_of(int fd, const std::string& path);
  void check_copy(const MeshImage& image, const std::filesystem::path& copy, const FileStamp& stamp,
                  const ImageKind& kind, bool has_backing) const;
  std::string pin(const MeshImage& image, Place::Making& for_whom, std::vector<std::string> above);
  std::string pin_tree(const MeshImage& archive, const Unpack& unpack, Place::Making& for_whom);
  void copy_disk(const std::filesystem::path& from, const std::filesystem::path& to, bool must_reflink) const;
  bool copy_open(const MeshImage& image, const std::filesystem::path& to) const;
  void say_copied(const Volume& volume) const;
  void lay_on(const std::filesystem::path& file, const std::string& id, const std::string& name) const;
  void make_overlay(const std::filesystem::path& file, const std::string& backing, Form form, std::int64_t size) const;
  void make_of_base(const Base& base, Way way, Volume& volume, const Place::Making& making) const;
  [[nodiscard]] std::string relative(const std::filesystem::path& backing, const std::string& name) const;
  Volume clone_disk_on_top(Volume of, const std::string& name);
  void check_unused(const Volume& volume) const;
  void settle(Volume volume);
  std::string start_export(const Volume& volume, const std::string& by = {});
  void stop_export(const Volume& volume);
  [[nodiscard]] std::string show_as_file(const Volume& volume);

  Place& place_;
  FilesDir files_;
  OpenImage open_;
  Say say_;
};

}  // namespace mesh
