// An object store that speaks S3: signatures of version 4 (store/sigv4.h), path style and virtual hosts, regions, and
// multipart uploads (https://docs.aws.amazon.com/AmazonS3/latest/API/). As ObjectStore says.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <string>

#include "store/object_store.h"
#include "store/sigv4.h"

namespace mesh {

class S3Store : public ObjectStore {
 public:
  struct Options {
    std::string name;
    std::string endpoint;  ///< https://HOST[:PORT][/PATH]; empty: AWS, by the region
    std::string region;
    bool has_path_style = true;                               ///< HOST/BUCKET/KEY; else BUCKET.HOST/KEY
    std::function<S3Credentials()> credentials;               ///< read when something is signed; throws Error
    std::function<std::string()> ca{};                        ///< PEM; empty: the system's
    std::int64_t most_single_bytes = std::int64_t{64} << 20;  ///< larger ones are put in parts
    std::int64_t least_part_bytes = std::int64_t{16} << 20;
  };
  explicit S3Store(Options options) : options_(std::move(options)) {}

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
  class Putting;

  Options options_;
  std::mutex mutex_;
  std::map<std::string, std::string> regions_;  ///< of buckets that said so
  bool has_conditions_ = true;                  ///< If-None-Match of what is put; known when it was refused
};

}  // namespace mesh
