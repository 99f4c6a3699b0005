#include "store/digests.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "core/error.h"
#include "core/format.h"
#include "core/merkle.h"

namespace mesh {
namespace {

constexpr std::size_t read_bytes = std::size_t{1} << 20;

class Hasher {
 public:
  explicit Hasher(const EVP_MD* kind) : context_(EVP_MD_CTX_new(), &EVP_MD_CTX_free) {
    if (!context_ || EVP_DigestInit_ex(context_.get(), kind, nullptr) != 1)
      throw Error(Status::failed, std::string(EVP_MD_get0_name(kind)) + " is not to be had from OpenSSL here");
  }
  void feed(std::string_view bytes) { EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()); }
  std::string end() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> out{};
    unsigned size = 0;
    EVP_DigestFinal_ex(context_.get(), out.data(), &size);
    return {reinterpret_cast<const char*>(out.data()), size};
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

std::string base64(std::string_view bytes) {
  std::string out(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  const int size =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                      reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  out.resize(static_cast<std::size_t>(size));
  return out;
}

}  // namespace

Digests digest(const Upload& upload, std::int64_t begin, std::int64_t size, const StoreCall& call) {
  Hasher sha256(EVP_sha256());
  Hasher md5(EVP_md5());
  std::vector<char> buffer(std::min(read_bytes, static_cast<std::size_t>(std::max<std::int64_t>(size, 1))));
  for (std::int64_t at = 0; at < size;) {
    if (call.stopped && call.stopped()) throw Error(Status::interrupted, printable(call.shown) + ": stopped");
    const auto n = std::min(static_cast<std::int64_t>(buffer.size()), size - at);
    upload.read(begin + at, buffer.data(), static_cast<std::size_t>(n));
    const std::string_view bytes(buffer.data(), static_cast<std::size_t>(n));
    sha256.feed(bytes);
    md5.feed(bytes);
    at += n;
  }
  Digests out;
  out.sha256 = to_hex(sha256.end());
  out.md5_raw = md5.end();
  out.md5 = to_hex(out.md5_raw);
  out.md5_base64 = base64(out.md5_raw);
  return out;
}

StoreLink::Body body_of(const Upload& upload, std::int64_t begin, std::int64_t size) {
  StoreLink::Body out;
  out.size = size;
  const auto at = std::make_shared<std::int64_t>(0);
  out.read = [&upload, begin, size, at](char* to, std::size_t most) {
    const auto n = std::min(static_cast<std::int64_t>(most), size - *at);
    if (n > 0) upload.read(begin + *at, to, static_cast<std::size_t>(n));
    if (n > 0 && upload.pace) upload.pace(n);
    // What is sent whole must not be of two states of it.
    if (*at + n == size && upload.check) upload.check();
    *at += n;
    if (upload.on_progress) upload.on_progress(begin + *at);
    return static_cast<std::size_t>(n);
  };
  out.rewind = [at] { *at = 0; };
  return out;
}

std::string md5_hex(std::string_view bytes) {
  Hasher out(EVP_md5());
  out.feed(bytes);
  return to_hex(out.end());
}

std::string sha256_hex(std::string_view bytes) { return sha256(bytes).hex(); }

}  // namespace mesh
