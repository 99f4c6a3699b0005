// A message channel: WebSocket (RFC 6455) binary frames, one bencoded message each, over TCP, in a mesh that has a key
// with TLS (wire/link.h), or over a local socket.
//
// Either side may send notes and requests at any time; replies carry the request's number. All of a channel runs on the
// one thread of its executor; nothing here locks. A channel lives as long as its `run` or a pending request.
// Bounds: a frame is at most max_frame_bytes, at most 1,024 requests of the other side are under way at once, of 32 MiB
// together, and of all channels of 256 MiB (more are refused), and a reader that lets more than 64 MiB pile up here is
// cut off.
#pragma once

#include <any>
#include <boost/asio/ip/address.hpp>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "core/error.h"
#include "wire/access.h"
#include "wire/codec.h"
#include "wire/messages.h"
#include "wire/task.h"

namespace mesh {

class Link;
struct UpgradeRequest;

/// What a program answers on its channels: one handler a message type. Handlers of requests are coroutines that may
/// throw Error; several run at once. Must outlive the channels that it serves.
class Handlers {
 public:
  template <class Request>
  void on(std::function<Task<typename Request::Reply>(ChannelPtr, Request)> handler) {
    typed_[Request::name] = handler;
    requests_[Request::name] = [handler = std::move(handler)](ChannelPtr channel,
                                                              const lt::bdecode_node& body) -> Task<lt::entry> {
      Request request;
      codec::decode(body, request, Request::name);
      return run<Request>(handler, std::move(channel), std::move(request));
    };
  }
  template <class Note>
  void on_note(std::function<void(const ChannelPtr&, Note)> handler) {
    notes_[Note::name] = [handler = std::move(handler)](const ChannelPtr& channel, const lt::bdecode_node& body) {
      Note note;
      codec::decode(body, note, Note::name);
      handler(channel, std::move(note));
    };
  }

  /// What is answered to this process itself, which has no channel: whose handlers need none. Throws what they throw,
  /// and Error(failed) where there is none for it.
  template <class Request>
  Task<typename Request::Reply> answer(Request request) const {
    using Handler = std::function<Task<typename Request::Reply>(ChannelPtr, Request)>;
    const auto it = typed_.find(Request::name);
    if (it == typed_.end()) throw Error(Status::failed, std::string("there is no ") + Request::name + " here");
    return std::any_cast<const Handler&>(it->second)(nullptr, std::move(request));
  }

  /// Told what each request took, from when it was read to when its answer was there. May be unset.
  std::function<void(std::string_view request, std::chrono::steady_clock::duration took)> on_answered;

 private:
  friend class Channel;
  template <class Request, class Handler>
  static Task<lt::entry> run(const Handler& handler, ChannelPtr channel, Request request) {
    const auto reply = co_await handler(std::move(channel), std::move(request));
    co_return codec::encode(reply);
  }
  std::map<std::string, std::any, std::less<>> typed_;
  std::map<std::string, std::function<Task<lt::entry>(ChannelPtr, const lt::bdecode_node&)>, std::less<>> requests_;
  std::map<std::string, std::function<void(const ChannelPtr&, const lt::bdecode_node&)>, std::less<>> notes_;
};

class Channel : public std::enable_shared_from_this<Channel> {
 public:
  /// Use the factories below, or Server. `where` names the other side in messages.
  Channel(Link link, std::string where, asio::ip::address remote);
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  [[nodiscard]] const std::string& where() const { return where_; }
  void set_where(std::string where) { where_ = std::move(where); }
  /// Unspecified for a local socket.
  [[nodiscard]] const asio::ip::address& remote() const { return remote_; }
  /// Of a local socket: the other side is a process of this one's user, or of root, as the kernel says. What such a one
  /// asks for it could do itself.
  [[nodiscard]] bool is_of_own_user() const { return of_own_user_; }
  void set_of_own_user(bool is_own) { of_own_user_ = is_own; }
  /// The address of this machine, with its port, at which the other side reached it; empty for a local socket.
  [[nodiscard]] std::string local() const;
  [[nodiscard]] bool is_open() const { return open_; }
  /// A request of this side waits for its answer.
  [[nodiscard]] bool is_waiting() const;
  [[nodiscard]] asio::any_io_executor executor() const;
  /// The bytes under it (wire/link.h).
  [[nodiscard]] Link& link();
  /// What belongs to this channel and no other, known to both ends, once its handshake is over: of the TLS connection
  /// under it, where there is one, and of a random text of either side's. 32 bytes.
  [[nodiscard]] const std::string& binding() const { return binding_; }
  void set_binding(std::string binding) { binding_ = std::move(binding); }

  /// The WebSocket handshakes (RFC 6455, section 4), which settle the binding where both sides take part in that.
  /// False where it came to nothing. `request`: where it has been read already (wire/upgrade.h).
  Task<bool> accept();
  Task<bool> accept(UpgradeRequest request);
  /// Throws Error(refused) with the other side's reason, which may be empty, where it declined; Error(unreachable).
  Task<void> connect(std::string host, std::string path);

  /// Reads and answers until either side closes; then every pending request has failed. Once per channel.
  Task<void> run(const Handlers& handlers) { return run(shared_from_this(), handlers); }

  template <class Note>
  void note(const Note& note) {
    lt::entry frame(lt::entry::dictionary_t);
    frame["t"] = Note::name;
    frame["b"] = codec::encode(note);
    send(frame);
  }

  /// Throws what the other side's handler threw, or Error(unreachable) when the channel closes or the time is up.
  template <class Request>
  Task<typename Request::Reply> request(Request request, std::chrono::milliseconds limit) {
    lt::entry body = codec::encode(request);
    const std::string reply = co_await exchange(Request::name, std::move(body), limit);
    try {
      co_return read_reply<typename Request::Reply>(reply);
    } catch (const CodecError& error) {
      throw Error(Status::failed, where_ + ": no sensible answer to '" + Request::name + "': " + error.what());
    }
  }

  /// Returns when less than a megabyte waits to be sent: for senders of many notes. Throws Error(unreachable) when
  /// closed.
  Task<void> drained();

  void close();

 private:
  template <class Reply>
  static Reply read_reply(const std::string& frame) {
    Reply reply;
    codec::decode(parse_bencode(frame).dict_find("b"), reply, Reply::name);
    return reply;
  }

  Task<std::string> exchange(const char* name, lt::entry body, std::chrono::milliseconds limit);
  // What runs by itself begins later than it is made: it owns the channel from the start.
  static Task<void> run(ChannelPtr self, const Handlers& handlers);
  static Task<void> answer(ChannelPtr self, const Handlers& handlers, std::string frame);
  void take_reply(std::int64_t number, std::string frame);
  void send(const lt::entry& frame);
  static Task<void> write_all(ChannelPtr self);

  struct State;  ///< the stream, and what waits
  std::unique_ptr<State> state_;
  std::string where_;
  asio::ip::address remote_;
  std::string binding_;
  bool open_ = true;
  bool of_own_user_ = false;
};

/// Connects to a tracker's or node's channel at "host:port". `path` is "/control" or "/node". With keys, both sides
/// prove that they share one of them; where all is for one user alone, that user's, or root's, must be the other side.
/// Throws Error(unreachable), Error(refused) where the other side is of another mesh, or another user's.
Task<ChannelPtr> connect_channel(std::string host_port, std::string path, std::chrono::milliseconds limit,
                                 Access access);
/// Runs a channel on its own executor until it closes, for a side that asks and answers nothing.
void run_to_ask(ChannelPtr channel);
/// Connects to the local socket `name` in the open directory, whatever the length of its path, which is `shown` in
/// messages. The kernel is asked who serves it (SO_PEERCRED): `believes` is told that user. `path`: "/local" but for
/// what is no conversation (serve/mount_teller.h). Throws Error(unreachable); Error(refused) where that user is not
/// believed, or does not believe this one.
Task<ChannelPtr> connect_local(int directory, std::string name, std::string shown, std::function<bool(uid_t)> believes,
                               std::string path);

/// Both ends of a channel within this process, each named as the other end shall see it; their handshake is over.
struct ChannelPair {
  ChannelPtr near;
  ChannelPtr far;
};
Task<ChannelPair> make_channel_pair(std::string near, std::string far);

}  // namespace mesh
