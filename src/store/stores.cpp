#include "store/stores.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <system_error>

#include "core/error.h"
#include "core/format.h"
#include "core/mesh_path.h"
#include "core/url.h"
#include "store/requests.h"
#include "store/s3_store.h"
#include "store/swift_store.h"

namespace mesh {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t most_credentials_bytes = 64 * 1024;
constexpr std::size_t most_certificates_bytes = 1024 * 1024;
/// In place of a file.
constexpr const char* of_environment = "environment";

std::string_view trimmed(std::string_view text) {
  const auto from = text.find_first_not_of(" \t\r");
  if (from == std::string_view::npos) return {};
  return text.substr(from, text.find_last_not_of(" \t\r") - from + 1);
}

/// A file that others may read holds no secret.
std::string read_secret_file(const fs::path& file) {
  const auto fail = [&](const std::string& why) { return Error(Status::failed, file.string() + ": " + why); };
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) throw fail(std::generic_category().message(errno));
  struct stat s {};
  std::string out(most_credentials_bytes, '\0');
  const bool is_file = ::fstat(fd, &s) == 0 && S_ISREG(s.st_mode);
  const auto n = is_file ? ::read(fd, out.data(), out.size()) : -1;
  ::close(fd);
  if (n < 0) throw fail("cannot be read");
  if ((s.st_mode & (S_IRWXO | S_IWGRP)) != 0)
    throw fail("others may read or change it; mend that with: chmod 600 " + file.string());
  out.resize(static_cast<std::size_t>(n));
  return out;
}

std::string text_of(const char* value) { return value == nullptr ? std::string() : std::string(value); }

std::string value_in(const StoreProfile& profile, const std::string& key) {
  const auto at = profile.find(key);
  return at == profile.end() ? std::string() : at->second;
}

/// Of a file, or of the environment under the same names in capitals.
class Secrets {
 public:
  explicit Secrets(const StoreOptions& store) : file_(store.credentials), profile_name_(store.profile) {
    if (!file_.empty() && file_ != of_environment) profile_ = read_profile(read_secret_file(file_), profile_name_);
  }
  std::string operator[](const std::string& key) const {
    if (file_ != of_environment) return value_in(profile_, key);
    std::string name(key);
    std::ranges::transform(name, name.begin(),
                           [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
    return text_of(std::getenv(name.c_str()));
  }
  [[nodiscard]] Error missing(const std::string& what) const {
    return {Status::failed, file_.string() + ": has no " + what + " in [" + printable(profile_name_) + "]"};
  }
  [[nodiscard]] bool is_nobody() const { return file_.empty(); }

 private:
  fs::path file_;
  std::string profile_name_;
  StoreProfile profile_;
};

S3Credentials s3_credentials(const StoreOptions& store) {
  const Secrets secrets(store);
  S3Credentials out{secrets["aws_access_key_id"], secrets["aws_secret_access_key"], secrets["aws_session_token"]};
  if (!secrets.is_nobody() && (out.key_id.empty() || out.secret.empty()))
    throw secrets.missing("aws_access_key_id and aws_secret_access_key");
  return out;
}

SwiftCredentials swift_credentials(const StoreOptions& store) {
  const Secrets secrets(store);
  SwiftCredentials out;
  if (!store.auth.ends_with("/v3")) {
    out.user = secrets["st_user"];
    out.key = secrets["st_key"];
    if (out.user.empty() || out.key.empty()) throw secrets.missing("st_user and st_key");
    return out;
  }
  out.application_id = secrets["os_application_credential_id"];
  out.application_secret = secrets["os_application_credential_secret"];
  out.user = secrets["os_username"];
  out.key = secrets["os_password"];
  out.user_domain = secrets["os_user_domain_name"];
  out.project = secrets["os_project_name"];
  out.project_domain = secrets["os_project_domain_name"];
  if (out.application_id.empty() && (out.user.empty() || out.key.empty() || out.project.empty()))
    throw secrets.missing("os_username, os_password and os_project_name, and no os_application_credential_id");
  return out;
}

/// Certificates are no secret.
std::string read_certificates(const fs::path& file) {
  if (file.empty()) return {};
  std::ifstream in(file, std::ios::binary);
  std::string out(most_certificates_bytes, '\0');
  in.read(out.data(), static_cast<std::streamsize>(out.size()));
  if (in.bad() || in.gcount() == 0)
    throw Error(Status::failed, file.string() + ": no certificates can be read from it");
  out.resize(static_cast<std::size_t>(in.gcount()));
  return out;
}

ObjectStorePtr make_store(const StoreOptions& from) {
  auto ca = [file = from.cacert] { return read_certificates(file); };
  if (from.is_swift()) {
    SwiftStore::Options out;
    out.name = from.name;
    out.auth = from.auth;
    while (out.auth.ends_with('/')) out.auth.pop_back();
    out.region = from.region;
    auto plain = from;
    plain.auth = out.auth;
    out.credentials = [plain] { return swift_credentials(plain); };
    out.ca = ca;
    return std::make_shared<SwiftStore>(std::move(out));
  }
  S3Store::Options out;
  out.name = from.name;
  out.endpoint = from.endpoint;
  out.region = from.region.empty() ? "us-east-1" : from.region;
  out.has_path_style = from.has_path_style;
  out.credentials = [from] { return s3_credentials(from); };
  out.ca = ca;
  return std::make_shared<S3Store>(std::move(out));
}

}  // namespace

StoreProfile read_profile(std::string_view text, std::string_view profile) {
  StoreProfile out;
  bool is_in = false;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    const auto line = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line.front() == '#' || line.front() == ';') continue;
    if (line.front() == '[') {
      is_in = line.back() == ']' && trimmed(line.substr(1, line.size() - 2)) == profile;
      continue;
    }
    const auto equals = line.find('=');
    if (!is_in || equals == std::string_view::npos) continue;
    out[std::string(trimmed(line.substr(0, equals)))] = trimmed(line.substr(equals + 1));
  }
  return out;
}

void set_store_option(StoreOptions& store, const std::string& key, const std::vector<std::string>& values) {
  const auto fail = [&](const std::string& why) {
    return Error(Status::usage, "[store." + printable(store.name) + "]: " + why);
  };
  if (key == "buckets" || key == "share") {
    (key == "buckets" ? store.buckets : store.share) = values;
    return;
  }
  if (values.size() != 1) throw fail(printable(key) + " is to have one value");
  const auto& value = values.front();
  if (key == "endpoint" || key == "auth") {
    const bool has_scheme = value.starts_with("https://") || value.starts_with("http://");
    if (!has_scheme || endpoint_parts(value)[1].empty() || value.find_first_of("@?# ") != std::string::npos)
      throw fail(key + " is https://HOST, or http://, with a port and a path where there are any, and without secrets");
    (key == "endpoint" ? store.endpoint : store.auth) = value;
    if (!store.endpoint.empty() && !store.auth.empty())
      throw fail("endpoint is that of a store of S3, and auth that of a store of Swift, whose endpoint is had there");
  } else if (key == "region") {
    store.region = value;
  } else if (key == "style") {
    if (value != "path" && value != "virtual") throw fail("style is path (HOST/BUCKET) or virtual (BUCKET.HOST)");
    store.has_path_style = value == "path";
  } else if (key == "credentials") {
    if (!value.starts_with('/')) throw fail("credentials is an absolute path, of a file as ~/.aws/credentials");
    store.credentials = value;
  } else if (key == "cacert") {
    if (!value.starts_with('/')) throw fail("cacert is an absolute path, of certificates in PEM");
    store.cacert = value;
  } else if (key == "profile") {
    store.profile = value;
  } else {
    throw fail("unknown key '" + printable(key) +
               "'; there are endpoint, auth, region, style, credentials, profile, cacert, buckets and share");
  }
}

std::vector<StoreOptions> stores_of_environment(const std::function<const char*(const char*)>& variable) {
  const auto get = [&](const char* name) { return text_of(variable(name)); };
  std::vector<StoreOptions> out;
  StoreOptions s3;
  s3.name = "default";
  if (const auto file = get("AWS_SHARED_CREDENTIALS_FILE"); !file.empty())
    s3.credentials = file;
  else if (const auto home = get("HOME"); !home.empty() && ::access((home + "/.aws/credentials").c_str(), F_OK) == 0)
    s3.credentials = home + "/.aws/credentials";
  if (!get("AWS_ACCESS_KEY_ID").empty()) s3.credentials = of_environment;
  s3.endpoint = get("AWS_ENDPOINT_URL_S3").empty() ? get("AWS_ENDPOINT_URL") : get("AWS_ENDPOINT_URL_S3");
  if (const auto profile = get("AWS_PROFILE"); !profile.empty()) s3.profile = profile;
  for (const char* name : {"AWS_REGION", "AWS_DEFAULT_REGION"})
    if (s3.region.empty()) s3.region = get(name);
  s3.cacert = get("AWS_CA_BUNDLE");
  s3.has_path_style = !s3.endpoint.empty();
  if (!s3.credentials.empty() || !s3.endpoint.empty()) out.push_back(s3);
  StoreOptions swift;
  swift.name = "default";
  swift.credentials = of_environment;
  swift.auth = get("ST_AUTH");
  if (swift.auth.empty()) {
    swift.auth = get("OS_AUTH_URL");
    while (swift.auth.ends_with('/')) swift.auth.pop_back();
    // The openstack command finds the version by itself.
    if (!swift.auth.empty() && !swift.auth.ends_with("/v3")) swift.auth += "/v3";
    swift.region = get("OS_REGION_NAME");
    swift.cacert = get("OS_CACERT");
  }
  if (!swift.auth.empty()) out.push_back(swift);
  return out;
}

Stores::Stores(std::vector<StoreOptions> all) {
  for (auto& one : all) {
    auto store = make_store(one);
    all_.push_back({std::move(one), std::move(store)});
  }
}

const Stores::Known* Stores::find(const std::string& name, bool is_swift) const {
  const auto it = std::ranges::find_if(
      all_, [&](const Known& one) { return one.options.name == name && one.options.is_swift() == is_swift; });
  return it == all_.end() ? nullptr : &*it;
}

std::string Stores::name_of(const Url& url) const {
  if (!url.store.empty()) return url.store;
  std::string out;
  for (const auto& [store, _] : all_) {
    if (store.is_swift() != url.is_swift() || std::ranges::find(store.buckets, url.bucket) == store.buckets.end())
      continue;
    if (!out.empty())
      throw Error(Status::usage, printable(url.shown) + ": the stores " + printable(out) + " and " +
                                     printable(store.name) + " have a bucket of that name; write " + url.scheme() +
                                     "STORE@" + printable(url.bucket) + "/...");
    out = store.name;
  }
  if (!out.empty()) return out;
  if (find("default", url.is_swift()) != nullptr) return "default";
  throw Error(Status::usage, printable(url.shown) + ": this node has no store for the bucket " + printable(url.bucket) +
                                 "; a [store.NAME] in mesh.conf names it in 'buckets', or is called default");
}

ObjectStorePtr Stores::find(const Url& url) const {
  if (const auto* known = find(url.store, url.is_swift())) return known->store;
  if (find(url.store, !url.is_swift()) != nullptr)
    throw Error(Status::usage, printable(url.shown) + ": the store " + printable(url.store) + " speaks " +
                                   (url.is_swift() ? "S3: write s3://" : "Swift: write swift://"));
  return nullptr;
}

void Stores::check_shared(const Url& url, const std::string& key, bool is_prefix) const {
  const auto whole = url.bucket + "/" + key;
  // What is below it, as the store understands it and as anything before the store may.
  const bool is_plain =
      is_mesh_path(whole) || (is_prefix && whole.ends_with('/') && is_mesh_path(whole.substr(0, whole.size() - 1)));
  const auto is_shared = [&](const std::string& share) {
    if (share.empty() || !is_plain || !whole.starts_with(share)) return false;
    return share.ends_with('/') || (whole.size() == share.size() ? !is_prefix : whole[share.size()] == '/');
  };
  const auto* known = find(url.store, url.is_swift());
  if (known != nullptr && std::ranges::any_of(known->options.share, is_shared)) return;
  throw Error(Status::refused, printable(url.shown) +
                                   ": this node does not get it for other members (share in its [store." +
                                   printable(url.store) + "])");
}

std::shared_ptr<ObjectAccess> Stores::open(const Url& url, bool is_for_others) const {
  const auto store = find(url);
  if (store == nullptr) return nullptr;
  if (is_for_others) check_shared(url, url.key, false);
  return std::make_shared<ObjectAccess>(store, url.bucket, url.key);
}

}  // namespace mesh
