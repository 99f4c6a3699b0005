// A port for HTTP clients, and who may ask there (RFC 9110, 9112; docs/decisions/0027): not this service's own port,
// where the mesh speaks.
//
// Who is not this process's user, or root, on this machine must send the token; no page of another origin in a browser
// may ask, and only names of this machine are answered to. What changes something is a POST of JSON, and whoever sends
// it has to send the token, too. What is the same in every program anybody may load. Bounds: a request head of at most
// 16 KiB, a body of at most 64 KiB, 10 s to send either, a minute between two, 2 minutes for a client that takes
// nothing, a fixed number of connections. On one loop's thread.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/message.hpp>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/http_request.h"
#include "wire/access.h"
#include "wire/connection_count.h"
#include "wire/http_answer.h"
#include "wire/task.h"

namespace mesh {

using HttpRequest = boost::beast::http::request<boost::beast::http::empty_body>;
[[nodiscard]] inline std::string_view http_header(const HttpRequest& request, boost::beast::http::field field) {
  const auto value = request[field];
  return {value.data(), value.size()};
}

struct HttpConnection {
  explicit HttpConnection(asio::ip::tcp::socket socket) : stream(std::move(socket)) {}
  static constexpr std::size_t most_head = 16 * 1024;
  boost::beast::tcp_stream stream;
  boost::beast::flat_buffer read{2 * most_head};  ///< and not taken yet
  bool is_head = false;                           ///< of the request that is being answered: only the head is wanted
  bool goes_on = true;                            ///< the connection, after it
  bool has_rest = false;   ///< of a request that was not read: it is read before the connection is closed
  bool is_cut = false;     ///< what is still to be sent is dropped
  bool has_begun = false;  ///< the answer: it can only be cut off
  /// What is kept for the next request, and told when one has been answered, well or not.
  std::shared_ptr<void> kept{};
  std::function<void(bool is_well)> answered{};
};
using HttpConnectionPtr = std::shared_ptr<HttpConnection>;

class HttpListener : public std::enable_shared_from_this<HttpListener> {
 public:
  static constexpr std::chrono::seconds take_limit{120};  ///< by a client that takes nothing
  struct Options {
    std::vector<std::string> names;  ///< what else this machine is called
    std::string token;
    ConnectionLimits connections{4'000, 1'000};
  };
  /// What else than pages is answered: what is to be sent, or nothing where it has been. Throws Error.
  using Answer =
      std::function<Task<std::optional<http_answer::Text>>(HttpConnectionPtr, const HttpRequest&, const HttpTarget&)>;
  using Make = std::function<Task<std::string>()>;
  /// Does what a body says, and returns what is answered, JSON both. Throws Error.
  using Take = std::function<Task<std::string>(std::string body)>;

  /// Listens at once at "ADDR:PORT", as the user gives it to --http; throws Error(usage) where that is none, and
  /// Error(failed) where it cannot.
  static std::shared_ptr<HttpListener> open(asio::io_context& io, const std::string& where, Options options);
  /// A page of this service's own at `path`, made for each request; before anybody asks.
  void add_page(std::string path, std::string type, Make make);
  /// The same, of what depends on more than the path.
  void add_answer(std::string path, Answer answer);
  /// Of a page in browsers: what anybody may load, from this path; `bytes` are there for good. A link from anywhere may
  /// lead to it.
  void add_asset(std::string path, std::string type, std::string_view bytes);
  void add_order(std::string path, Take take);
  void set_answer(Answer answer) { answer_ = std::move(answer); }

  [[nodiscard]] asio::ip::tcp::endpoint local() const { return acceptor_.local_endpoint(); }
  [[nodiscard]] int connections() const { return static_cast<int>(open_.size()); }
  [[nodiscard]] bool is_closed() const { return is_closed_; }
  /// Listens no more, and hangs up.
  void close();

  /// Throws Error(interrupted) where the client is gone.
  static Task<void> send_bytes(HttpConnectionPtr to, std::string_view head, std::string_view bytes = {});
  /// Whether the client has gone. What it sends meanwhile is for later; that it sends nothing more is no end.
  [[nodiscard]] static bool is_gone(HttpConnection& connection);

 private:
  HttpListener(asio::io_context& io, Options options);
  static Task<void> accept_all(std::shared_ptr<HttpListener> self);
  static Task<void> serve(std::shared_ptr<HttpListener> self, HttpConnectionPtr connection,
                          std::shared_ptr<void> counted);
  Task<std::optional<http_answer::Text>> answer(HttpConnectionPtr to, const HttpRequest& request);
  static Task<void> send_text(HttpConnectionPtr to, http_answer::Text text);
  [[nodiscard]] bool has_token(const HttpRequest& request) const;
  [[nodiscard]] std::string refusal(int socket, const HttpRequest& request, const HttpTarget& target,
                                    int& status) const;
  struct Asset {
    std::string type;
    std::string_view bytes;
    std::string etag;
  };
  [[nodiscard]] http_answer::Text answer_asset(const Asset& asset, const HttpRequest& request) const;
  Task<http_answer::Text> take_order(HttpConnectionPtr from, const HttpRequest& request, const Take& take);
  static Task<std::string> read_body(HttpConnectionPtr from, std::size_t size);

  asio::io_context& io_;
  asio::ip::tcp::acceptor acceptor_;
  Options options_;
  ConnectionCount counts_;
  std::map<std::string, Answer, std::less<>> pages_;
  std::map<std::string, Asset, std::less<>> assets_;
  std::map<std::string, Take, std::less<>> orders_;
  Answer answer_;
  std::set<HttpConnectionPtr> open_;
  bool is_closed_ = false;
};
using HttpListenerPtr = std::shared_ptr<HttpListener>;

}  // namespace mesh
