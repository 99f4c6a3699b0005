// A place for volumes: a directory with their files, each under its volume's name, and below .meshvol what is known of
// them and what they hang on.
//
//   NAME                        the volume: its disk, or its tree
//   .meshvol/lock               held by who changes anything (flock(2))
//   .meshvol/volumes/*.json     a record each (volume/records.h)
//   .meshvol/bases/ID, ID.json  images and trees that volumes hang on; read-only
//   .meshvol/making/KEY.data    what is being made; KEY.intent is locked by its maker, and says what bases it needs
//   .meshvol/attached/, exports/, overlays/
//
// A command that is killed leaves nothing half: what it was making has an intent whose lock is free, and goes; what was
// decided has a record, and is brought to its end. Both are done by the next command that takes the lock. Blocks; for
// one thread.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "disk/fd.h"
#include "volume/place_options.h"
#include "volume/records.h"

namespace mesh {

class Place {
 public:
  /// `to_change`: it is made where it is missing. One that is missing has no volumes. Throws Error: usage where
  /// somebody else could change what the path leads to; failed.
  Place(PlaceOptions options, bool to_change);
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  [[nodiscard]] const PlaceOptions& options() const { return options_; }
  [[nodiscard]] const std::filesystem::path& location() const { return options_.location; }
  /// What mounting "-" shows.
  [[nodiscard]] std::filesystem::path metadata() const;

  // What the file system below can do.
  [[nodiscard]] bool has_reflinks() const;
  [[nodiscard]] bool is_btrfs() const;

  /// Sorted by name. What cannot be read is in `faults`, a line each.
  [[nodiscard]] std::vector<Volume> volumes(std::vector<std::string>* faults = nullptr) const;
  [[nodiscard]] std::vector<Base> bases(std::vector<std::string>* faults = nullptr) const;
  [[nodiscard]] std::optional<Volume> find(const std::string& name) const;
  /// Throws Error(not_found).
  [[nodiscard]] Volume get(const std::string& name) const;
  [[nodiscard]] std::optional<Base> find_base(const std::string& id) const;
  [[nodiscard]] std::optional<Attachment> find_attachment(const std::string& name) const;

  [[nodiscard]] std::filesystem::path data(const Volume& volume) const;  ///< the file or directory of it
  [[nodiscard]] std::filesystem::path base(const std::string& id) const { return own_ / "bases" / id; }
  [[nodiscard]] std::filesystem::path overlay(const std::string& name) const;
  [[nodiscard]] std::filesystem::path export_file(const std::string& name) const;
  [[nodiscard]] std::filesystem::path record(const std::string& name) const;
  [[nodiscard]] std::filesystem::path base_record(const std::string& id) const {
    return own_ / "bases" / (id + ".json");
  }
  [[nodiscard]] std::filesystem::path attachment(const std::string& name) const;

  /// The place is this process's while that lives. What others left half is brought to its end first.
  [[nodiscard]] Fd lock();

  /// What is being made, under a lock of its own, for as long as this lives; what is there then, and has not found its
  /// place, goes. To be made, and to end well, under the place's lock.
  class Making {
   public:
    /// Empty where somebody else makes that.
    static std::optional<Making> begin(const Place& place, const std::string& key);
    Making(Making&&) = default;
    Making& operator=(Making&& other) noexcept {
      std::swap(intent_, other.intent_);
      std::swap(data_, other.data_);
      std::swap(fd_, other.fd_);
      return *this;
    }
    Making(const Making&) = delete;
    Making& operator=(const Making&) = delete;
    ~Making();
    [[nodiscard]] const std::filesystem::path& data() const { return data_; }
    /// These bases stay while it is made.
    void needs(const std::string& base);
    /// It has found its place.
    void end();

   private:
    Making(std::filesystem::path intent, std::filesystem::path data, Fd fd)
        : intent_(std::move(intent)), data_(std::move(data)), fd_(std::move(fd)) {}
    std::filesystem::path intent_;
    std::filesystem::path data_;
    Fd fd_;
  };
  /// Waits until nobody makes that any more.
  void wait_for_maker(const std::string& key) const;

  // Under the lock:
  /// Throws Error where no volume can be called so: usage for what is no name, refused where one is.
  void check_free(const std::string& name) const;
  /// Writes the record, and moves the data to its place.
  void put(const Volume& volume, Making& making);
  void put(const Base& base, Making& making);
  /// What was its own becomes a base, and an empty image on top of that takes its place: `top` is that.
  void put_under(Volume& volume, const std::string& base);
  void remove(Volume volume);
  /// Removes the bases that nothing hangs on.
  void free_bases() const;

 private:
  void recover() const;
  bool recover(Volume volume) const;
  void take_over(Volume& volume) const;
  void finish_removal(const Volume& volume) const;
  void move_into_place(const std::filesystem::path& data, const Volume& volume) const;
  [[nodiscard]] std::set<std::string> needed_bases(const std::vector<Volume>& volumes,
                                                   const std::vector<Base>& bases) const;
  void free_bases(const std::vector<Volume>& volumes, std::vector<Base> bases) const;

  PlaceOptions options_;
  std::filesystem::path own_;
};

/// Removes a file, a directory with all below, or a subvolume. What is not there is no fault. Throws Error(failed).
void remove_data(const std::filesystem::path& data);
/// A qcow2 image's backing file is called so from now on; nothing is read of either (qemu-img rebase -u).
void rebase(const std::filesystem::path& image, const std::string& backing, Form form);
/// The id of the base that a qcow2 image of a place names as its backing file; empty: it lies on nothing.
[[nodiscard]] std::string lies_on(const std::filesystem::path& file);
/// Whether a subvolume's root is there.
[[nodiscard]] bool is_subvolume(const std::filesystem::path& path);

}  // namespace mesh
