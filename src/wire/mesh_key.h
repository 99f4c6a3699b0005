// The key of a mesh: who has it is a member, and nobody else is. From one secret of 32 bytes, by HKDF (RFC 5869), come
// - the pre-shared key of the channels (TLS 1.3, RFC 8446 section 4.2.11) and the public name under which it is
// offered;
// - the certificate authority of the swarms: an Ed25519 key and a certificate that every member makes alike, so that a
//   torrent that carries it has an infohash that follows from content and key (libtorrent's SSL torrents);
// - the token of BEP 3 announces, and the key of --discover's broadcasts.
//
// A key file holds one key a line, "meshswarm-key-1 " and 64 hex digits; the first is the one to use, the others are
// accepted, too: that is how keys are changed without stopping a mesh. Lines "head = " with the instance of a node
// (meshseed --print-identity) name the head nodes. Immutable once read; any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/digest.h"

namespace mesh {

struct MeshKey {
  std::string name;    ///< public, and says nothing of the secret: 16 hex digits
  Digest<32> channel;  ///< TLS's pre-shared key
  Digest<32> discover;
  Digest<32> torrent;       ///< from it and a content id follows what makes the content's infohash a secret
  std::string token;        ///< of announces: 32 hex digits
  std::string authority;    ///< certificate, PEM; the same at every member
  std::string certificate;  ///< this process's own, signed by the authority, PEM
  std::string private_key;  ///< of `certificate`, PEM
};

class MeshKeys {
 public:
  /// At least one secret; throws Error(failed) where the library cannot make what a key needs.
  explicit MeshKeys(const std::vector<Digest<32>>& secrets, std::vector<std::string> heads = {});

  [[nodiscard]] const MeshKey& first() const { return keys_.front(); }
  [[nodiscard]] const std::vector<MeshKey>& all() const { return keys_; }
  /// Null where none has this name.
  [[nodiscard]] const MeshKey* find(std::string_view name) const;
  [[nodiscard]] bool is_token(std::string_view token) const;
  /// Whether the node of this instance is a head node.
  [[nodiscard]] bool is_head(std::string_view instance) const;
  [[nodiscard]] const std::vector<std::string>& heads() const { return heads_; }

 private:
  std::vector<MeshKey> keys_;
  std::vector<std::string> heads_;
};
using MeshKeysPtr = std::shared_ptr<const MeshKeys>;

/// Throws Error(failed) where the system has no randomness.
[[nodiscard]] Digest<32> random_secret();
/// A new secret, as a line of a key file.
[[nodiscard]] std::string new_key_line();
/// The secrets of a key file's text, and where `heads` is given, the instances that it names. Throws Error(usage);
/// `where` names the file.
[[nodiscard]] std::vector<Digest<32>> parse_keys(std::string_view text, const std::string& where,
                                                 std::vector<std::string>* heads = nullptr);
/// What stands in the info dictionary of this content's torrent in a mesh with this key, 64 hex digits: who does not
/// have the key cannot compute the infohash, whatever he knows of the content.
[[nodiscard]] std::string infohash_secret(const MeshKey& key, std::string_view content_id, std::int64_t size);
/// Reads a key file that nobody but its owner, and a group that may only read it, has access to. Throws Error(usage).
[[nodiscard]] MeshKeysPtr read_keys(const std::filesystem::path& file);

/// Finite-field parameters that libtorrent wants beside a certificate (RFC 7919's ffdhe2048), PEM.
[[nodiscard]] const std::string& dh_parameters();

}  // namespace mesh
