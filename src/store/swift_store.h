// An object store that speaks OpenStack Swift (https://docs.openstack.org/api-ref/object-store/): tokens of its own
// auth of version 1 or of Keystone v3 (https://docs.openstack.org/api-ref/identity/v3/), static large objects. As
// ObjectStore says.
#pragma once

#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "store/object_store.h"

namespace mesh {

class StoreLink;

/// Of version 1 a user and a key; of Keystone a user's name and password with a project, or an application credential.
struct SwiftCredentials {
  std::string user{};
  std::string key{};
  std::string user_domain{};  ///< Default where it is empty
  std::string project{};
  std::string project_domain{};
  std::string application_id{};
  std::string application_secret{};
};

class SwiftStore : public ObjectStore {
 public:
  struct Options {
    std::string name;
    std::string auth;    ///< https://HOST[:PORT]/auth/v1.0, or https://HOST[:PORT]/v3
    std::string region;  ///< of Keystone's catalog; empty: the first
    std::function<SwiftCredentials()> credentials;
    std::function<std::string()> ca{};
    std::int64_t most_single_bytes = std::int64_t{64} << 20;  ///< larger ones are put in segments
    std::int64_t least_segment_bytes = std::int64_t{64} << 20;
  };
  explicit SwiftStore(Options options) : options_(std::move(options)) {}

  [[nodiscard]] SignedRequest sign(const StoreRequest& request) override;
  bool learn(const SignedRequest& asked, const std::string& bucket, long code, const std::string& region) override;
  [[nodiscard]] const std::string& name() const override { return options_.name; }
  [[nodiscard]] std::string ca() const override { return options_.ca ? options_.ca() : std::string(); }
  [[nodiscard]] ObjectPage list(const std::string& bucket, const std::string& prefix, const std::string& delimiter,
                                const std::string& after, const StoreCall& call) override;
  [[nodiscard]] ObjectHead head(const std::string& bucket, const std::string& key, const StoreCall& call) override;
  Uploaded put(const std::string& bucket, const std::string& key, const Upload& upload, const StoreCall& call) override;
  void remove(const std::string& bucket, const std::string& key, const StoreCall& call) override;

 private:
  using Clock = std::chrono::steady_clock;
  struct Session {
    std::string url;  ///< of the account, without a slash at the end
    std::string token;
    Clock::time_point begun{};
  };
  Session session();
  Session log_in();
  void log_in_to_v1(StoreLink& link, const SwiftCredentials& by, Session& out) const;
  void log_in_to_keystone(StoreLink& link, const SwiftCredentials& by, Session& out) const;
  [[nodiscard]] std::int64_t segment_bytes(std::int64_t size) const;
  std::string put_whole(StoreLink& link, StoreRequest request, const Upload& upload, const StoreCall& call);
  std::string put_segments(StoreLink& link, StoreRequest manifest, const Upload& upload, const StoreCall& call);
  std::vector<std::string> segments_of(StoreLink& link, const std::string& bucket, const std::string& key);
  void remove_segments(StoreLink& link, const std::string& bucket, const std::vector<std::string>& keys);

  Options options_;
  std::mutex mutex_;
  Session session_;
};

}  // namespace mesh
