// One object store as this node's configuration names it: who signs requests to it, and what can be asked of it.
// Everything blocks; any thread, several at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"

namespace mesh {

/// What is asked of a store. Names and values of `query` are not encoded, names of `headers` are in lower case.
struct StoreRequest {
  std::string method = "GET";
  std::string bucket{};
  std::string key{};  ///< empty: of the bucket itself
  std::vector<std::pair<std::string, std::string>> query{};
  std::map<std::string, std::string> headers{};
  std::string content_sha256 = "UNSIGNED-PAYLOAD";  ///< of the body, in hex
};

/// As it goes over the wire, good for some minutes. One of the headers may be a secret.
struct SignedRequest {
  std::string url;
  std::vector<std::string> headers;
};

/// What a listing says of an object; of a DLO, and of what its own store does not know better, a size of 0.
struct StoredObject {
  std::string key;
  std::int64_t size = 0;
  std::int64_t mtime = 0;  ///< nanoseconds since the epoch; 0: not said
  std::string etag{};      ///< without quotes
};
struct ObjectPage {
  std::vector<StoredObject> objects;  ///< in the order of their keys' bytes
  std::vector<std::string> prefixes;  ///< with a delimiter: what is below each of these is left out
  std::string next;                   ///< there is more: what to ask with
};

/// What a store says of one object (HEAD).
struct ObjectHead {
  std::int64_t size = -1;
  std::string etag{};     ///< without quotes
  bool is_large = false;  ///< in segments that a manifest names (SLO)
};

/// How a request to a store is carried out.
struct StoreCall {
  std::string shown;                ///< what it is about, for messages
  int timeout_seconds = 30;         ///< of silence
  std::function<bool()> stopped{};  ///< asked a few times a second; may be empty
};

/// What is to be put into a store: `read` gives up to `size` bytes from `offset`, all that there are until the end;
/// throws Error.
struct Upload {
  std::int64_t size = 0;
  std::function<void(std::int64_t offset, char* to, std::size_t size)> read;
  std::function<void(std::int64_t done)> on_progress{};  ///< bytes that the store has for good
  std::string version{};  ///< tells one state of the file from another, in letters, digits and '.'
  bool may_replace = false;
  std::function<void()> check{};                   ///< throws Error where it is not what it was any more
  std::function<void(std::int64_t bytes)> pace{};  ///< returns when so many more may be sent
  std::string abandoned{};                         ///< as `resume`, of another state of the file: not wanted any more
  std::string resume{};                            ///< what `on_state` said the last time; empty: from the start
  std::function<void(const std::string& state)> on_state{};  ///< what to remember to go on with after a crash
};
struct Uploaded {
  std::string etag;
  bool is_raced = false;  ///< the store has no If-None-Match: two writers may have raced
};

class ObjectStore {
 public:
  virtual ~ObjectStore() = default;

  /// Throws Error: failed where the credentials cannot be read or are not taken, unreachable.
  [[nodiscard]] virtual SignedRequest sign(const StoreRequest& request) = 0;
  /// What an answer's status says of how the request was signed, and the region that it named. True where asking again
  /// is worth it.
  virtual bool learn(const SignedRequest& asked, const std::string& bucket, long code, const std::string& region) = 0;
  [[nodiscard]] virtual const std::string& name() const = 0;
  /// PEM; empty: the system's.
  [[nodiscard]] virtual std::string ca() const = 0;

  /// A page of what is in a bucket, behind `after`, which is a page's `next` or empty. Throws Error.
  [[nodiscard]] virtual ObjectPage list(const std::string& bucket, const std::string& prefix,
                                        const std::string& delimiter, const std::string& after,
                                        const StoreCall& call) = 0;
  /// Throws Error, not_found among them.
  [[nodiscard]] virtual ObjectHead head(const std::string& bucket, const std::string& key, const StoreCall& call) = 0;
  /// Whole objects: it is there as it is to be, or not at all. Throws Error; refused where there is one already.
  virtual Uploaded put(const std::string& bucket, const std::string& key, const Upload& upload,
                       const StoreCall& call) = 0;
  /// With its segments. Throws Error, not_found among them.
  virtual void remove(const std::string& bucket, const std::string& key, const StoreCall& call) = 0;
};
using ObjectStorePtr = std::shared_ptr<ObjectStore>;

/// What one of a store's objects is asked for with.
class ObjectAccess {
 public:
  ObjectAccess(ObjectStorePtr store, std::string bucket, std::string key)
      : store_(std::move(store)), bucket_(std::move(bucket)), key_(std::move(key)) {}
  [[nodiscard]] SignedRequest request(const std::string& method) const {
    StoreRequest out;
    out.method = method;
    out.bucket = bucket_;
    out.key = key_;
    return store_->sign(out);
  }
  bool learn(const SignedRequest& asked, long code, const std::string& region) const {
    return store_->learn(asked, bucket_, code, region);
  }
  [[nodiscard]] const std::string& store() const { return store_->name(); }
  [[nodiscard]] std::string ca() const { return store_->ca(); }

 private:
  ObjectStorePtr store_;
  std::string bucket_;
  std::string key_;
};

}  // namespace mesh
