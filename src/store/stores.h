// The object stores that a node may ask, as its configuration names them, and requests for their objects
// (docs/decisions/0034). Any thread; reading credentials blocks.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/url.h"
#include "store/object_store.h"

namespace mesh {

/// [store.NAME]
struct StoreOptions {
  std::string name;
  std::string endpoint{};               ///< of S3, https://HOST[:PORT][/PATH]; empty: AWS, by the region
  std::string auth{};                   ///< of Swift, whose tokens are had there; set: it is no S3
  std::string region{};                 ///< empty: us-east-1 of S3, the first that Keystone names
  bool has_path_style = true;           ///< HOST/BUCKET/KEY; else BUCKET.HOST/KEY
  std::filesystem::path credentials{};  ///< as ~/.aws/credentials; empty: nobody's
  std::string profile = "default";      ///< in it
  std::filesystem::path cacert{};       ///< PEM, to be trusted in place of the system's
  std::vector<std::string> buckets{};   ///< that are in it, where a URL names no store
  std::vector<std::string> share{};     ///< BUCKET/PREFIX that it gets for other members, too
  [[nodiscard]] bool is_swift() const { return !auth.empty(); }
};

class Stores {
 public:
  explicit Stores(std::vector<StoreOptions> all);

  /// The name of the store that `url` is in: its own, else that of the one that has the bucket, else `default`. Throws
  /// Error(usage).
  [[nodiscard]] std::string name_of(const Url& url) const;
  /// What has the objects of `url`, whose store is set; nothing where this node has no such store. Throws Error(usage)
  /// where it speaks something else.
  [[nodiscard]] ObjectStorePtr find(const Url& url) const;
  /// Throws Error(refused) where the store is not shared so far that other members may have the object `key`, or, of a
  /// prefix, all that begins so.
  void check_shared(const Url& url, const std::string& key, bool is_prefix) const;
  /// The same for one object. `is_for_others`: another member has this node ask; throws Error(refused) where the store
  /// is not shared so far.
  [[nodiscard]] std::shared_ptr<ObjectAccess> open(const Url& url, bool is_for_others) const;

 private:
  struct Known {
    StoreOptions options;
    ObjectStorePtr store;
  };
  [[nodiscard]] const Known* find(const std::string& name, bool is_swift) const;
  std::vector<Known> all_;
};

/// One line of a section, `key` without the section's name. Throws Error(usage).
void set_store_option(StoreOptions& store, const std::string& key, const std::vector<std::string>& values);
/// What the environment makes the stores `default`: AWS_* and ~/.aws/credentials one of S3; ST_* or OS_*, as the swift
/// and openstack commands have them, one of Swift.
[[nodiscard]] std::vector<StoreOptions> stores_of_environment(const std::function<const char*(const char*)>& variable);

/// A profile of an AWS credentials file's text: its keys and values. Swift's are st_user and st_key, or what OS_* are
/// called, in lower case.
using StoreProfile = std::map<std::string, std::string>;
[[nodiscard]] StoreProfile read_profile(std::string_view text, std::string_view profile);

}  // namespace mesh
