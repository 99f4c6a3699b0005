#include "wire/link.h"

#include <openssl/ssl.h>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "core/error.h"

namespace mesh {
namespace {

using boost::system::error_code;

/// Where a connection keeps its keys, and the one that it offers.
int keys_slot() {
  static const int slot = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return slot;
}
int offered_slot() {
  static const int slot = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return slot;
}

/// OpenSSL wants one where peers are verified.
constexpr unsigned char id_context[] = {'m', 'e', 's', 'h'};

/// A session that was never held, which is how OpenSSL takes a pre-shared key.
SSL_SESSION* session_of(SSL* ssl, const MeshKey& key) {
  static constexpr unsigned char aes_128_gcm_sha256[] = {0x13, 0x01};
  const SSL_CIPHER* cipher = SSL_CIPHER_find(ssl, aes_128_gcm_sha256);
  SSL_SESSION* session = SSL_SESSION_new();
  if (cipher != nullptr && session != nullptr &&
      SSL_SESSION_set1_master_key(session, reinterpret_cast<const unsigned char*>(key.channel.bytes.data()),
                                  key.channel.bytes.size()) == 1 &&
      SSL_SESSION_set1_id_context(session, id_context, sizeof id_context) == 1 &&
      SSL_SESSION_set_cipher(session, cipher) == 1 && SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1)
    return session;
  SSL_SESSION_free(session);
  return nullptr;
}

int offer_key(SSL* ssl, const EVP_MD* digest, const unsigned char** id, std::size_t* size, SSL_SESSION** session) {
  const auto* key = static_cast<const MeshKey*>(SSL_get_ex_data(ssl, offered_slot()));
  *session = nullptr;
  if (key == nullptr) return 0;
  // Asked again after a retry, for another hash than the key's: without it, then, which fails.
  if (digest != nullptr && EVP_MD_is_a(digest, "SHA256") != 1) return 1;
  *session = session_of(ssl, *key);
  *id = reinterpret_cast<const unsigned char*>(key->name.data());
  *size = key->name.size();
  return *session != nullptr ? 1 : 0;
}

int find_key(SSL* ssl, const unsigned char* id, std::size_t size, SSL_SESSION** session) {
  const auto* keys = static_cast<const MeshKeys*>(SSL_get_ex_data(ssl, keys_slot()));
  const auto* key = keys == nullptr ? nullptr : keys->find({reinterpret_cast<const char*>(id), size});
  *session = key == nullptr ? nullptr : session_of(ssl, *key);
  return 1;
}

asio::ssl::context make_context(bool connects) {
  asio::ssl::context out(connects ? asio::ssl::context::tls_client : asio::ssl::context::tls_server);
  SSL_CTX* context = out.native_handle();
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256");
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_max_early_data(context, 0);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
  // Nobody has a certificate here: whoever shows one, in place of the key, is not believed.
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_session_id_context(context, id_context, sizeof id_context);
  SSL_CTX_set_psk_use_session_callback(context, offer_key);
  SSL_CTX_set_psk_find_session_callback(context, find_key);
  return out;
}

asio::ssl::context& context_of(bool connects) {
  static asio::ssl::context client = make_context(true);
  static asio::ssl::context server = make_context(false);
  return connects ? client : server;
}

}  // namespace

void Link::secure(const MeshKeysPtr& keys, const MeshKey* key) {
  state_->keys = keys;
  state_->connects = key != nullptr;
  state_->tls.emplace(state_->socket, context_of(state_->connects));
  SSL* ssl = state_->tls->native_handle();
  SSL_set_ex_data(ssl, keys_slot(), const_cast<MeshKeys*>(keys.get()));
  SSL_set_ex_data(ssl, offered_slot(), const_cast<MeshKey*>(key));
}

std::string Link::exporter(std::string_view label) const {
  if (!state_->tls) return {};
  std::string out(32, '\0');
  if (SSL_export_keying_material(state_->tls->native_handle(), reinterpret_cast<unsigned char*>(out.data()), out.size(),
                                 label.data(), label.size(), nullptr, 0, 0) != 1)
    throw Error(Status::failed, "TLS gives no keying material");
  return out;
}

asio::awaitable<void> Link::handshake() {
  using Type = asio::ssl::stream_base;
  error_code ec;
  co_await state_->tls->async_handshake(state_->connects ? Type::client : Type::server,
                                        asio::redirect_error(asio::use_awaitable, ec));
  if (ec == asio::error::operation_aborted || ec == asio::error::bad_descriptor)
    throw Error(Status::unreachable, "no answer in time");
  // Who is not of the mesh says so by an alert. This is one that is going, or has too many connections.
  if (ec == asio::error::connection_reset || ec == asio::error::broken_pipe || ec == asio::error::eof ||
      ec == asio::ssl::error::stream_truncated)
    throw Error(Status::unreachable, ec.message());
  // The proof is the key itself, and nothing else that TLS might have settled for.
  if (ec || SSL_session_reused(state_->tls->native_handle()) != 1)
    throw Error(Status::refused, "is not of this mesh: it does not have the mesh key that this side has (--key)");
}

}  // namespace mesh
