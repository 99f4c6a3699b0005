#include "swarm/tls_batch.h"

#include <openssl/bio.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

namespace mesh {
namespace {

constexpr std::size_t most_collected = std::size_t{128} << 10;
constexpr std::size_t most_read = std::size_t{256} << 10;
constexpr std::size_t a_record = std::size_t{16} << 10;  // what Asio's pair has room for
/// Buffers of connections on which less than this comes and goes at a time are not kept.
constexpr std::size_t little = std::size_t{64} << 10;

void release(std::vector<char>& buffer) { std::vector<char>().swap(buffer); }

}  // namespace

struct TlsBatch::Shared {
  std::vector<std::shared_ptr<Connection>> written;  ///< in this round
  std::vector<char> arrived = std::vector<char>(most_read);
  int held_up = 0;  ///< connections whose sockets are full
};

class TlsBatch::Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<Shared> shared, BIO* pair, boost::asio::ip::tcp::socket& socket)
      : shared_(std::move(shared)), pair_(pair), socket_(&socket) {}
  ~Connection() {
    count(false);
    ::BIO_free(pair_);
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  int write(BIO* bio, const char* bytes, int size);
  int read(BIO* bio, char* bytes, int size);
  /// What OpenSSL asks of the BIO under it.
  long control(int what, long number, void* pointer) { return ::BIO_ctrl(pair_, what, number, pointer); }

  void flush() {
    is_listed_ = false;
    if (socket_ != nullptr && !asio_sends_ && !push()) wait_for_socket();
  }
  void detach() {
    if (socket_ == nullptr) return;
    if (!asio_sends_) push();
    // Records that are sent without those before them are none.
    is_cut_ = asio_sends_ || pending() > 0;
    socket_ = nullptr;
    asio_sends_ = false;
    count(false);
    release(out_);
    sent_ = 0;
  }

 private:
  void count(bool held_up) {
    if (std::exchange(is_held_up_, held_up) != held_up) shared_->held_up += held_up ? 1 : -1;
  }
  [[nodiscard]] std::size_t pending() const { return out_.size() - sent_; }
  bool push();
  void wait_for_socket();
  int through_pair(BIO* bio, const char* bytes, int size);

  std::shared_ptr<Shared> shared_;
  BIO* pair_;
  boost::asio::ip::tcp::socket* socket_;  ///< null once detached
  std::vector<char> out_;                 ///< records, of which the first `sent_` bytes are on their way
  std::size_t sent_ = 0;
  std::vector<char> in_;  ///< that has arrived, of which OpenSSL has the first `taken_` bytes
  std::size_t taken_ = 0;
  bool is_listed_ = false;
  bool is_awaited_ = false;  ///< the socket is
  bool asio_sends_ = false;  ///< the oldest records, and tries again when they are gone
  bool is_cut_ = false;
  bool is_held_up_ = false;
};

/// False where the socket is full.
bool TlsBatch::Connection::push() {
  while (pending() > 0) {
    const auto n = ::send(socket_->native_handle(), out_.data() + sent_, pending(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0) {
      sent_ += static_cast<std::size_t>(n);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return false;
    } else if (errno != EINTR) {
      is_cut_ = true;  // the connection is gone, of which Asio hears by reading
      sent_ = out_.size();
    }
  }
  if (out_.size() < little)
    release(out_);
  else
    out_.clear();
  sent_ = 0;
  return true;
}

void TlsBatch::Connection::wait_for_socket() {
  count(true);
  if (std::exchange(is_awaited_, true)) return;
  socket_->async_wait(boost::asio::ip::tcp::socket::wait_write,
                      [weak = weak_from_this()](const boost::system::error_code& error) {
                        const auto self = weak.lock();
                        if (!self) return;
                        self->is_awaited_ = false;
                        if (self->socket_ == nullptr) return;
                        self->count(self->asio_sends_);
                        if (!error) self->flush();
                      });
}

/// As if this BIO were not there.
int TlsBatch::Connection::through_pair(BIO* bio, const char* bytes, int size) {
  const int n = ::BIO_write(pair_, bytes, size);
  if (n <= 0) BIO_set_retry_write(bio);
  return n;
}

int TlsBatch::Connection::write(BIO* bio, const char* bytes, int size) {
  BIO_clear_retry_flags(bio);
  if (is_cut_) return size;
  if (socket_ == nullptr) return through_pair(bio, bytes, size);
  // Asio tries again only when what it had to send is sent. (OpenSSL may also come here while it reads, to answer with
  // an alert or new keys: who makes it do so has his own connection's records out of order.)
  asio_sends_ = false;
  count(is_awaited_);
  if (pending() >= most_collected && !push()) {
    const auto oldest = static_cast<int>(std::min(pending(), a_record));
    if (const int n = ::BIO_write(pair_, out_.data() + sent_, oldest); n > 0) sent_ += static_cast<std::size_t>(n);
    asio_sends_ = true;
    count(true);
    BIO_set_retry_write(bio);
    return -1;
  }
  if (sent_ > out_.size() / 2) {
    out_.erase(out_.begin(), out_.begin() + static_cast<std::ptrdiff_t>(sent_));
    sent_ = 0;
  }
  if (out_.capacity() == 0 && size > static_cast<int>(a_record) / 4) out_.reserve(most_collected + 2 * a_record);
  out_.insert(out_.end(), bytes, bytes + size);
  if (!std::exchange(is_listed_, true)) shared_->written.push_back(shared_from_this());
  return size;
}

int TlsBatch::Connection::read(BIO* bio, char* bytes, int size) {
  BIO_clear_retry_flags(bio);
  const auto take = [&](const char* from, std::size_t there) {
    const auto n = std::min(there, static_cast<std::size_t>(size));
    std::memcpy(bytes, from, n);
    return n;
  };
  if (taken_ < in_.size()) {
    const auto n = take(in_.data() + taken_, in_.size() - taken_);
    taken_ += n;
    return static_cast<int>(n);
  }
  // What Asio has read itself came before what the socket has now.
  if (const int n = ::BIO_read(pair_, bytes, size); n > 0) return n;
  auto& arrived = shared_->arrived;
  const auto n =
      socket_ == nullptr ? ssize_t{-1} : ::recv(socket_->native_handle(), arrived.data(), arrived.size(), MSG_DONTWAIT);
  taken_ = 0;
  if (n <= 0) {  // Asio waits for more, or finds the end of the connection itself
    release(in_);
    BIO_set_retry_read(bio);
    return -1;
  }
  const auto now = take(arrived.data(), static_cast<std::size_t>(n));
  if (static_cast<std::size_t>(n) < little) release(in_);
  in_.assign(arrived.begin() + static_cast<std::ptrdiff_t>(now), arrived.begin() + n);
  return static_cast<int>(now);
}

namespace {

using Held = std::shared_ptr<TlsBatch::Connection>;

Held& held(BIO* bio) { return *static_cast<Held*>(::BIO_get_data(bio)); }

const BIO_METHOD* method() {
  static BIO_METHOD* const out = [] {
    auto* made = ::BIO_meth_new(::BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "batch");
    ::BIO_meth_set_create(made, [](BIO* bio) {
      ::BIO_set_init(bio, 1);
      return 1;
    });
    ::BIO_meth_set_destroy(made, [](BIO* bio) {
      delete static_cast<Held*>(::BIO_get_data(bio));
      return 1;
    });
    ::BIO_meth_set_write(made,
                         [](BIO* bio, const char* bytes, int size) { return held(bio)->write(bio, bytes, size); });
    ::BIO_meth_set_read(made, [](BIO* bio, char* bytes, int size) { return held(bio)->read(bio, bytes, size); });
    ::BIO_meth_set_ctrl(made, [](BIO* bio, int what, long number, void* pointer) -> long {
      if (what == BIO_CTRL_PUSH || what == BIO_CTRL_POP) return 0;
      if (what == BIO_CTRL_FLUSH) return 1;
      return held(bio)->control(what, number, pointer);
    });
    return made;
  }();
  return out;
}

}  // namespace

void TlsBatch::Attached::detach() {
  if (connection_) connection_->detach();
  connection_.reset();
}

TlsBatch::TlsBatch() : shared_(std::make_shared<Shared>()) {}
TlsBatch::~TlsBatch() = default;

TlsBatch::Attached TlsBatch::attach(SSL* ssl, boost::asio::ip::tcp::socket& socket) {
  BIO* const pair = ::SSL_get_wbio(ssl);
  BIO* const bio = pair == nullptr || pair != ::SSL_get_rbio(ssl) ? nullptr : ::BIO_new(method());
  if (bio == nullptr) return {};  // then as without it
  ::BIO_up_ref(pair);
  const auto connection = std::make_shared<Connection>(shared_, pair, socket);
  ::BIO_set_data(bio, new Held(connection));
  ::BIO_up_ref(bio);  // one reference for each direction
  ::SSL_set0_rbio(ssl, bio);
  ::SSL_set0_wbio(ssl, bio);
  return Attached(connection);
}

bool TlsBatch::is_held_up() const { return shared_->held_up > 0; }

void TlsBatch::flush() {
  // What is written meanwhile is for the next time.
  auto written = std::exchange(shared_->written, {});
  for (const auto& connection : written) connection->flush();
  if (shared_->written.empty()) {
    written.clear();
    shared_->written = std::move(written);  // with its room
  }
}

}  // namespace mesh
