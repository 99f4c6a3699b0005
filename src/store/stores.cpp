#include "store/stores.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <system_error>

#include "core/error.h"
#include "core/format.h"
#include "core/mesh_path.h"
#include "core/url.h"

namespace mesh {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t most_credentials_bytes = 64 * 1024;
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

/// "https://HOST:PORT/PATH": the scheme with its slashes, HOST:PORT, and the path without a slash at the end.
std::array<std::string, 3> parts_of(const std::string& endpoint) {
  const auto host = endpoint.find("://") + 3;
  const auto slash = std::min(endpoint.find('/', host), endpoint.size());
  auto path = endpoint.substr(slash);
  while (path.ends_with('/')) path.pop_back();
  return {endpoint.substr(0, host), endpoint.substr(host, slash - host), path};
}

}  // namespace

S3Credentials read_credentials(std::string_view text, std::string_view profile) {
  S3Credentials out;
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
    const auto key = trimmed(line.substr(0, equals));
    const auto value = trimmed(line.substr(equals + 1));
    if (key == "aws_access_key_id") out.key_id = value;
    if (key == "aws_secret_access_key") out.secret = value;
    if (key == "aws_session_token") out.session_token = value;
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
  if (key == "endpoint") {
    const bool has_scheme = value.starts_with("https://") || value.starts_with("http://");
    if (!has_scheme || parts_of(value)[1].empty() || value.find_first_of("@?# ") != std::string::npos)
      throw fail(
          "endpoint is https://HOST, or http://, with a port and a path where there are any, and without secrets");
    store.endpoint = value;
  } else if (key == "region") {
    store.region = value;
  } else if (key == "style") {
    if (value != "path" && value != "virtual") throw fail("style is path (HOST/BUCKET) or virtual (BUCKET.HOST)");
    store.has_path_style = value == "path";
  } else if (key == "credentials") {
    if (!value.starts_with('/')) throw fail("credentials is an absolute path, of a file as ~/.aws/credentials");
    store.credentials = value;
  } else if (key == "profile") {
    store.profile = value;
  } else {
    throw fail("unknown key '" + printable(key) +
               "'; there are endpoint, region, style, credentials, profile, buckets and share");
  }
}

std::optional<StoreOptions> store_of_environment(const std::function<const char*(const char*)>& variable) {
  const auto get = [&](const char* name) { return text_of(variable(name)); };
  StoreOptions out;
  out.name = "default";
  if (const auto file = get("AWS_SHARED_CREDENTIALS_FILE"); !file.empty())
    out.credentials = file;
  else if (const auto home = get("HOME"); !home.empty() && ::access((home + "/.aws/credentials").c_str(), F_OK) == 0)
    out.credentials = home + "/.aws/credentials";
  if (!get("AWS_ACCESS_KEY_ID").empty()) out.credentials = of_environment;
  out.endpoint = get("AWS_ENDPOINT_URL_S3").empty() ? get("AWS_ENDPOINT_URL") : get("AWS_ENDPOINT_URL_S3");
  if (out.credentials.empty() && out.endpoint.empty()) return std::nullopt;
  if (const auto profile = get("AWS_PROFILE"); !profile.empty()) out.profile = profile;
  for (const char* name : {"AWS_REGION", "AWS_DEFAULT_REGION"})
    if (const auto region = get(name); !region.empty()) {
      out.region = region;
      break;
    }
  if (out.endpoint.empty()) out.has_path_style = false;
  return out;
}

const StoreOptions* Stores::find(const std::string& name) const {
  const auto it = std::ranges::find(all_, name, &StoreOptions::name);
  return it == all_.end() ? nullptr : &*it;
}

std::string Stores::name_of(const Url& url) const {
  if (!url.store.empty()) return url.store;
  std::string out;
  for (const auto& store : all_) {
    if (std::ranges::find(store.buckets, url.bucket) == store.buckets.end()) continue;
    if (!out.empty())
      throw Error(Status::usage, printable(url.shown) + ": the stores " + printable(out) + " and " +
                                     printable(store.name) + " have a bucket of that name; write s3://STORE@" +
                                     printable(url.bucket) + "/...");
    out = store.name;
  }
  if (!out.empty()) return out;
  if (find("default") != nullptr) return "default";
  throw Error(Status::usage, printable(url.shown) + ": this node has no store for the bucket " + printable(url.bucket) +
                                 "; a [store.NAME] in mesh.conf names it in 'buckets', or is called default");
}

std::shared_ptr<ObjectAccess> Stores::open(const Url& url, bool is_for_others) const {
  const auto* store = find(url.store);
  if (store == nullptr) return nullptr;
  const auto whole = url.bucket + "/" + url.key;
  // What is below it, as the store understands it and as anything before the store may.
  const auto is_shared = [&](const std::string& prefix) {
    return !prefix.empty() && is_mesh_path(whole) && whole.starts_with(prefix) &&
           (prefix.ends_with('/') || whole.size() == prefix.size() || whole[prefix.size()] == '/');
  };
  if (is_for_others && std::ranges::none_of(store->share, is_shared))
    throw Error(Status::refused, printable(url.shown) +
                                     ": this node does not get it for other members (share in its [store." +
                                     printable(store->name) + "])");
  auto credentials = [file = store->credentials, profile = store->profile]() -> S3Credentials {
    if (file.empty()) return {};
    if (file == of_environment)
      return {text_of(std::getenv("AWS_ACCESS_KEY_ID")), text_of(std::getenv("AWS_SECRET_ACCESS_KEY")),
              text_of(std::getenv("AWS_SESSION_TOKEN"))};
    auto out = read_credentials(read_secret_file(file), profile);
    if (out.key_id.empty() || out.secret.empty())
      throw Error(Status::failed, file.string() + ": has no aws_access_key_id and aws_secret_access_key in [" +
                                      printable(profile) + "]");
    return out;
  };
  return std::make_shared<ObjectAccess>(*store, url.bucket, url.key, std::move(credentials));
}

ObjectAccess::Request ObjectAccess::request(const std::string& method) const {
  const auto endpoint = store_.endpoint.empty() ? "https://s3." + store_.region + ".amazonaws.com" : store_.endpoint;
  const auto [scheme, host, path] = parts_of(endpoint);
  S3Request out;
  out.method = method;
  out.host = store_.has_path_style ? host : bucket_ + "." + host;
  out.path =
      path + (store_.has_path_style ? "/" + s3_encoded(bucket_, false) : std::string()) + "/" + s3_encoded(key_, true);
  const auto credentials = credentials_();
  // A bucket may be everybody's.
  if (credentials.key_id.empty()) return {scheme + out.host + out.path, {}};
  return {scheme + out.host + out.path, sign_v4(out, credentials, store_.region, std::time(nullptr))};
}

bool ObjectAccess::learn_region(const std::string& region) {
  const bool is_name = !region.empty() && region.size() < 64 && std::ranges::all_of(region, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
  if (!is_name || region == store_.region) return false;
  store_.region = region;
  return true;
}

}  // namespace mesh
