#include "wire/identity.h"

#include <openssl/evp.h>

#include "core/error.h"
#include "core/format.h"
#include "core/merkle.h"
#include "core/mesh_path.h"

namespace mesh {
namespace {

using Context = std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)>;

const unsigned char* bytes_of(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

std::string instance_of(std::string_view public_key) { return sha256(public_key).hex().substr(0, 32); }

std::string message_of(std::string_view what, std::string_view binding) {
  return "meshswarm identity 1\n" + std::string(what) + "\n" + std::string(binding);
}

}  // namespace

Identity::Identity(const Digest<32>& seed)
    : seed_(seed),
      key_(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, bytes_of(seed.view()), seed.view().size()),
           EVP_PKEY_free) {
  public_key_.resize(32);
  std::size_t size = public_key_.size();
  if (!key_ ||
      EVP_PKEY_get_raw_public_key(key_.get(), reinterpret_cast<unsigned char*>(public_key_.data()), &size) != 1 ||
      size != public_key_.size())
    throw Error(Status::failed, "the node's identity cannot be used: Ed25519 failed");
  instance_ = instance_of(public_key_);
}

std::string Identity::prove(std::string_view what, std::string_view binding) const {
  const auto message = message_of(what, binding);
  const Context context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  std::string out(64, '\0');
  std::size_t size = out.size();
  if (!context || EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key_.get()) != 1 ||
      EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(out.data()), &size, bytes_of(message),
                     message.size()) != 1 ||
      size != out.size())
    throw Error(Status::failed, "the node's identity cannot be proven: Ed25519 failed");
  return out;
}

bool is_proven(std::string_view instance, std::string_view public_key, std::string_view what, std::string_view binding,
               std::string_view proof) {
  if (public_key.size() != 32 || proof.size() != 64 || binding.empty() || instance != instance_of(public_key))
    return false;
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, bytes_of(public_key), public_key.size()), &EVP_PKEY_free);
  const Context context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  const auto message = message_of(what, binding);
  return key && context && EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key.get()) == 1 &&
         EVP_DigestVerify(context.get(), bytes_of(proof), proof.size(), bytes_of(message), message.size()) == 1;
}

std::string node_name_fault(std::string_view name) {
  if (name.empty()) return "a node's name is empty";
  if (name.size() > 255) return "a node's name is longer than 255 bytes";
  if (!is_utf8(name) || printable(name) != name) return printable(name) + ": a node's name has no control characters";
  if (is_instance(name)) return printable(name) + ": is an identity, and no name for a node";
  if (name.find('#') != std::string_view::npos) return printable(name) + ": a node's name has no '#'";
  return {};
}

bool is_instance(std::string_view text) { return is_hex(text, 32); }

}  // namespace mesh
