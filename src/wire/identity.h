// Who a node is: an Ed25519 key (RFC 8032), made at its first start and kept in its state directory. The beginning of
// the SHA-256 of the public key, 32 hex digits, is the node's instance, by which the others tell it from every other
// node.
//
// A node proves itself on each channel by a signature over what no other channel has (Channel::binding), so that nobody
// can say anything in another's name, nor hand on what another has said. Immutable; any thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "core/digest.h"

struct evp_pkey_st;

namespace mesh {

class Identity {
 public:
  /// Throws Error(failed) where the library cannot make a key of the seed.
  explicit Identity(const Digest<32>& seed);
  [[nodiscard]] const Digest<32>& seed() const { return seed_; }

  [[nodiscard]] const std::string& instance() const { return instance_; }
  /// 32 bytes.
  [[nodiscard]] const std::string& public_key() const { return public_key_; }
  /// A signature, 64 bytes: this node says `what` on the channel of this binding.
  [[nodiscard]] std::string prove(std::string_view what, std::string_view binding) const;

 private:
  Digest<32> seed_;
  std::shared_ptr<evp_pkey_st> key_;
  std::string public_key_;
  std::string instance_;
};
using IdentityPtr = std::shared_ptr<const Identity>;

/// Whether `proof` is what the node of this instance and public key says with `what` on the channel of this binding.
[[nodiscard]] bool is_proven(std::string_view instance, std::string_view public_key, std::string_view what,
                             std::string_view binding, std::string_view proof);

/// What is wrong with a node's name, in words; empty when nothing is: it goes to terminals and logs, and a '#' sets
/// apart nodes of one name.
[[nodiscard]] std::string node_name_fault(std::string_view name);
/// Whether `text` is an instance: 32 hex digits in lower case.
[[nodiscard]] bool is_instance(std::string_view text);

}  // namespace mesh
