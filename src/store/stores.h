// The object stores that a node may ask, as its configuration names them, and requests for their objects
// (docs/decisions/0034). Any thread; reading credentials blocks.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/url.h"
#include "store/sigv4.h"

namespace mesh {

/// [store.NAME]
struct StoreOptions {
  std::string name;
  std::string endpoint{};  ///< https://HOST[:PORT][/PATH]; empty: AWS, by the region
  std::string region = "us-east-1";
  bool has_path_style = true;           ///< HOST/BUCKET/KEY; else BUCKET.HOST/KEY
  std::filesystem::path credentials{};  ///< as ~/.aws/credentials; empty: nobody's
  std::string profile = "default";      ///< in it
  std::vector<std::string> buckets{};   ///< that are in it, where a URL names no store
  std::vector<std::string> share{};     ///< BUCKET/PREFIX that it gets for other members, too
};

/// What one of a store's objects is asked for with. Of one get; `request` any thread, one at a time.
class ObjectAccess {
 public:
  ObjectAccess(StoreOptions store, std::string bucket, std::string key, std::function<S3Credentials()> credentials)
      : store_(std::move(store)),
        bucket_(std::move(bucket)),
        key_(std::move(key)),
        credentials_(std::move(credentials)) {}

  struct Request {
    std::string url;
    std::vector<std::string> headers;  ///< one of them may be a secret
  };
  /// At this moment: what is signed is signed for some minutes. Throws Error(failed) where the credentials cannot be
  /// read.
  [[nodiscard]] Request request(const std::string& method) const;
  /// The store said in which region the bucket is. True where that is another one: asking again is worth it.
  bool learn_region(const std::string& region);
  [[nodiscard]] const std::string& store() const { return store_.name; }

 private:
  StoreOptions store_;
  std::string bucket_;
  std::string key_;
  std::function<S3Credentials()> credentials_;
};

class Stores {
 public:
  explicit Stores(std::vector<StoreOptions> all) : all_(std::move(all)) {}

  /// The name of the store that `url` is in: its own, else that of the one that has the bucket, else `default`. Throws
  /// Error(usage).
  [[nodiscard]] std::string name_of(const Url& url) const;
  /// Nothing where this node has no such store. `is_for_others`: another member has this node ask; throws
  /// Error(refused) where the store is not shared so far.
  [[nodiscard]] std::shared_ptr<ObjectAccess> open(const Url& url, bool is_for_others) const;

 private:
  [[nodiscard]] const StoreOptions* find(const std::string& name) const;
  std::vector<StoreOptions> all_;
};

/// One line of a section, `key` without the section's name. Throws Error(usage).
void set_store_option(StoreOptions& store, const std::string& key, const std::vector<std::string>& values);
/// What AWS_* of the environment and ~/.aws/credentials make the store `default`; nothing where they say nothing.
[[nodiscard]] std::optional<StoreOptions> store_of_environment(const std::function<const char*(const char*)>& variable);
/// Of a profile in an AWS credentials file's text; empty ones where it has none.
[[nodiscard]] S3Credentials read_credentials(std::string_view text, std::string_view profile);

}  // namespace mesh
