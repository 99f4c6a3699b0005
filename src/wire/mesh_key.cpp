#include "wire/mesh_key.h"

#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/dh.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <stdexcept>
#include <system_error>

#include "core/error.h"
#include "core/format.h"
#include "wire/identity.h"

namespace mesh {
namespace {

constexpr std::string_view line_begin = "meshswarm-key-1 ";
constexpr std::size_t most_keys = 4;
constexpr std::size_t most_file_bytes = 4096;

template <auto release>
struct Release {
  template <class T>
  void operator()(T* object) const {
    release(object);
  }
};
using Pkey = std::unique_ptr<EVP_PKEY, Release<EVP_PKEY_free>>;
using PkeyContext = std::unique_ptr<EVP_PKEY_CTX, Release<EVP_PKEY_CTX_free>>;
using Kdf = std::unique_ptr<EVP_KDF, Release<EVP_KDF_free>>;
using KdfContext = std::unique_ptr<EVP_KDF_CTX, Release<EVP_KDF_CTX_free>>;
using Certificate = std::unique_ptr<X509, Release<X509_free>>;
using Extension = std::unique_ptr<X509_EXTENSION, Release<X509_EXTENSION_free>>;
using Memory = std::unique_ptr<BIO, Release<BIO_free_all>>;

void check(bool good, const char* what) {
  if (!good) throw Error(Status::failed, std::string("the mesh key cannot be used: ") + what + " failed");
}

Digest<32> derive(const Digest<32>& secret, std::string info) {
  const Kdf kdf(EVP_KDF_fetch(nullptr, "HKDF", nullptr));
  check(kdf != nullptr, "HKDF");
  const KdfContext context(EVP_KDF_CTX_new(kdf.get()));
  Digest<32> in = secret;
  char digest[] = "SHA256";
  const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
                               OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, in.bytes.data(), in.bytes.size()),
                               OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info.data(), info.size()),
                               OSSL_PARAM_construct_end()};
  Digest<32> out;
  check(EVP_KDF_derive(context.get(), reinterpret_cast<unsigned char*>(out.bytes.data()), out.bytes.size(), params) > 0,
        "HKDF");
  OPENSSL_cleanse(in.bytes.data(), in.bytes.size());
  return out;
}

std::string text_of(const Memory& memory) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(memory.get(), &data);
  return {data, static_cast<std::size_t>(size)};
}

void extend(X509* certificate, X509* issuer, int id, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const Extension extension(X509V3_EXT_conf_nid(nullptr, &context, id, value));
  check(extension && X509_add_ext(certificate, extension.get(), -1) == 1, "a certificate's extension");
}

/// Without a time or a number of its own: the authority has to be the same at every member, byte for byte.
Certificate certify(EVP_PKEY* subject, const char* name, X509* issuer, EVP_PKEY* signer) {
  Certificate out(X509_new());
  check(out && X509_set_version(out.get(), 2) == 1, "a certificate");
  ASN1_INTEGER_set(X509_get_serialNumber(out.get()), 1);
  check(ASN1_TIME_set_string(X509_getm_notBefore(out.get()), "19700101000000Z") == 1 &&
            ASN1_TIME_set_string(X509_getm_notAfter(out.get()), "99991231235959Z") == 1,
        "a certificate's time");
  check(X509_NAME_add_entry_by_txt(X509_get_subject_name(out.get()), "CN", MBSTRING_ASC,
                                   reinterpret_cast<const unsigned char*>(name), -1, -1, 0) == 1,
        "a certificate's name");
  X509* above = issuer != nullptr ? issuer : out.get();
  check(X509_set_issuer_name(out.get(), X509_get_subject_name(above)) == 1, "a certificate's issuer");
  check(X509_set_pubkey(out.get(), subject) == 1, "a certificate's key");
  if (issuer == nullptr) {
    extend(out.get(), above, NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
    extend(out.get(), above, NID_key_usage, "critical,keyCertSign");
  }
  check(X509_sign(out.get(), signer, nullptr) > 0, "signing a certificate");
  return out;
}

std::string pem_of(X509* certificate) {
  const Memory out(BIO_new(BIO_s_mem()));
  check(PEM_write_bio_X509(out.get(), certificate) == 1, "writing a certificate");
  return text_of(out);
}

MeshKey expand(const Digest<32>& secret) {
  MeshKey out;
  const auto part = [&](const char* what) { return derive(secret, std::string("meshswarm 1 ") + what); };
  out.name = part("name").hex().substr(0, 16);
  out.channel = part("channel");
  out.discover = part("discover");
  out.torrent = part("torrent");
  out.token = part("announce").hex().substr(0, 32);
  const auto seed = part("authority");
  const Pkey authority(EVP_PKEY_new_raw_private_key(
      EVP_PKEY_ED25519, nullptr, reinterpret_cast<const unsigned char*>(seed.bytes.data()), seed.bytes.size()));
  check(authority != nullptr, "Ed25519");
  const Certificate root = certify(authority.get(), "mesh", nullptr, authority.get());
  out.authority = pem_of(root.get());
  const Pkey own(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
  check(own != nullptr, "Ed25519");
  // For every torrent of the mesh. By the common name: libtorrent 2.0.8 leaks the alternative names that it looks at.
  out.certificate = pem_of(certify(own.get(), "*", root.get(), authority.get()).get());
  const Memory key(BIO_new(BIO_s_mem()));
  check(PEM_write_bio_PrivateKey(key.get(), own.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1, "writing a key");
  out.private_key = text_of(key);
  return out;
}

/// Only as `hex` writes it.
std::optional<Digest<32>> secret_of(std::string_view text) {
  try {
    const auto secret = Digest<32>::from(from_hex(text));
    return secret && secret->hex() == text ? secret : std::nullopt;
  } catch (const std::invalid_argument&) {
    return std::nullopt;
  }
}

}  // namespace

MeshKeys::MeshKeys(const std::vector<Digest<32>>& secrets, std::vector<std::string> heads) : heads_(std::move(heads)) {
  for (const auto& secret : secrets) keys_.push_back(expand(secret));
  if (keys_.empty()) throw Error(Status::usage, "no mesh key is given");
}

const MeshKey* MeshKeys::find(std::string_view name) const {
  const auto it = std::ranges::find(keys_, name, &MeshKey::name);
  return it == keys_.end() ? nullptr : &*it;
}

bool MeshKeys::is_token(std::string_view token) const {
  return std::ranges::any_of(keys_, [&](const MeshKey& key) {
    return token.size() == key.token.size() && CRYPTO_memcmp(token.data(), key.token.data(), token.size()) == 0;
  });
}

bool MeshKeys::is_head(std::string_view instance) const { return std::ranges::find(heads_, instance) != heads_.end(); }

std::string infohash_secret(const MeshKey& key, std::string_view content_id, std::int64_t size) {
  return derive(key.torrent, "meshswarm 1 infohash " + std::string(content_id) + " " + std::to_string(size)).hex();
}

Digest<32> random_secret() {
  Digest<32> out;
  if (RAND_priv_bytes(reinterpret_cast<unsigned char*>(out.bytes.data()), static_cast<int>(out.bytes.size())) != 1)
    throw Error(Status::failed, "the system gives no random bytes");
  return out;
}

std::string new_key_line() { return std::string(line_begin) + random_secret().hex(); }

std::vector<Digest<32>> parse_keys(std::string_view text, const std::string& where, std::vector<std::string>* heads) {
  std::vector<Digest<32>> out;
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);  // some editors begin UTF-8 so
  int number = 0;
  while (!text.empty()) {
    ++number;
    const auto end = text.find('\n');
    auto line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ' || line.back() == '\t')) line.remove_suffix(1);
    if (line.empty() || line.front() == '#') continue;
    if (line.starts_with("head")) {
      auto rest = line.substr(4);
      const auto begin = rest.find_first_not_of(" \t=");
      const bool named = begin != std::string_view::npos && rest.substr(0, begin).find('=') != std::string_view::npos;
      if (!named || !is_instance(rest.substr(begin)))
        throw Error(Status::usage, where + ": line " + std::to_string(number) +
                                       " names no head node (head = and what meshseed --print-identity prints)");
      if (heads != nullptr) heads->emplace_back(rest.substr(begin));
      continue;
    }
    const auto secret = line.starts_with(line_begin) ? secret_of(line.substr(line_begin.size())) : std::nullopt;
    if (!secret)
      throw Error(Status::usage, where + ": line " + std::to_string(number) +
                                     " is no mesh key ('meshkey new' makes one: meshswarm-key-1 and 64 hex digits)");
    if (std::ranges::find(out, *secret) != out.end())
      throw Error(Status::usage, where + ": line " + std::to_string(number) + " has the same key as an earlier one");
    out.push_back(*secret);
    if (out.size() > most_keys)
      throw Error(Status::usage, where + ": more than " + std::to_string(most_keys) + " keys");
  }
  if (out.empty()) throw Error(Status::usage, where + ": has no mesh key ('meshkey new' makes one)");
  return out;
}

constexpr int pipe_limit_ms = 5000;

MeshKeysPtr read_keys(const std::filesystem::path& file) {
  const auto fail = [&](const std::string& why) { return Error(Status::usage, "--key " + file.string() + ": " + why); };
  // A FIFO or device in its place must not hang the program.
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) throw fail(std::generic_category().message(errno));
  const std::unique_ptr<const int, void (*)(const int*)> closed(&fd, [](const int* open) { ::close(*open); });
  struct stat s {};
  if (::fstat(fd, &s) != 0) throw fail(std::generic_category().message(errno));
  if (!S_ISREG(s.st_mode) && !S_ISFIFO(s.st_mode)) throw fail("is no file");
  if ((s.st_mode & (S_IWGRP | S_IXGRP | S_IRWXO)) != 0)
    throw fail("others may read or change it; mend that with: chmod 600 " + file.string());
  if (s.st_uid != ::geteuid() && s.st_uid != 0)
    throw fail("belongs to another user; mend that with: chown " + std::to_string(::geteuid()) + " " + file.string());
  std::string text(most_file_bytes + 1, '\0');
  std::size_t have = 0;
  while (have < text.size()) {
    const ssize_t n = ::read(fd, text.data() + have, text.size() - have);
    if (n == 0) break;
    if (n > 0) have += static_cast<std::size_t>(n);
    if (n > 0 || errno == EINTR) continue;
    // A pipe (--key <(command)), whose other end takes its time.
    pollfd ready{fd, POLLIN, 0};
    if (errno != EAGAIN) throw fail(std::generic_category().message(errno));
    if (::poll(&ready, 1, pipe_limit_ms) == 0) throw fail("is a pipe into which nobody writes");
  }
  text.resize(have);
  if (text.size() > most_file_bytes) throw fail("is too large to be a key file");
  std::vector<std::string> heads;
  auto secrets = parse_keys(text, "--key " + file.string(), &heads);
  auto keys = std::make_shared<const MeshKeys>(secrets, std::move(heads));
  for (auto& secret : secrets) OPENSSL_cleanse(secret.bytes.data(), secret.bytes.size());
  OPENSSL_cleanse(text.data(), text.size());
  return keys;
}

const std::string& dh_parameters() {
  static const std::string pem = [] {
    const PkeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, "DH", nullptr));
    char group[] = "ffdhe2048";
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
                                 OSSL_PARAM_construct_end()};
    EVP_PKEY* made = nullptr;
    check(context && EVP_PKEY_paramgen_init(context.get()) == 1 &&
              EVP_PKEY_CTX_set_params(context.get(), params) == 1 && EVP_PKEY_paramgen(context.get(), &made) == 1,
          "ffdhe2048");
    const Pkey owned(made);
    const Memory out(BIO_new(BIO_s_mem()));
    check(PEM_write_bio_Parameters(out.get(), owned.get()) == 1, "writing ffdhe2048");
    return text_of(out);
  }();
  return pem;
}

}  // namespace mesh
