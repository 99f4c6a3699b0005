// Requests that change something and are sent again, as the connection was lost before their answer came: each is done
// once, and answered as often as it is asked. (As ProxyFS's retryrpc does it; RFC 5661, 2.10.6 has the same for NFS.)
//
// Answers are written down, so that a node that was restarted gives them as well, and kept until somebody says that he
// has heard them. A request that was under way when the node was killed has no answer, and is done again: what of it
// had been done is not there to be done twice. On the node's loop.
#pragma once

#include <algorithm>
#include <ctime>
#include <functional>
#include <string>
#include <utility>

#include "core/error.h"
#include "library/state_db.h"
#include "wire/codec.h"
#include "wire/flow.h"
#include "wire/messages.h"
#include "wire/workers.h"

namespace mesh {

class Once {
 public:
  Once(Workers& workers, StateDb& db) : workers_(workers), db_(db) {}

  /// What `work` says, or said the first time. Throws what it threw.
  template <class Request>
  Task<typename Request::Reply> run(Request request, std::function<Task<typename Request::Reply>(Request)> work) {
    using Reply = typename Request::Reply;
    if (request.once.empty()) co_return co_await work(std::move(request));
    if (!is_once(request.once)) throw Error(Status::usage, "a request's number makes no sense");
    const auto key = std::string(Request::name) + " " + request.once;
    std::function<Task<Answer>()> answer = [this, key, request = std::move(request),
                                            work = std::move(work)]() -> Task<Answer> {
      return give<Request>(key, request, work);
    };
    const Answer given = co_await under_way_.run(key, std::move(answer));
    if (given.status != Status::ok) throw Error(given.status, given.error);
    co_return from_bencode<Reply>(given.body);
  }
  template <class Request>
  void heard(const std::string& once) {
    db_.remove_answer(std::string(Request::name) + " " + once);
  }

 private:
  struct Answer {
    static constexpr const char* name = "answer";
    Status status = Status::ok;
    std::string error;
    std::string body;
    template <class V>
    void describe(V& v) {
      v("status", status), v("error", error), v("body", body);
    }
  };
  static constexpr std::size_t most_bytes = std::size_t{1} << 20;

  /// What is kept of it: that it was done counts, and of long lists their beginning does.
  template <class Reply>
  static std::string shortened(Reply reply) {
    auto out = to_bencode(reply);
    if constexpr (requires { reply.paths, reply.missing, reply.errors; })
      for (auto most = std::max({reply.paths.size(), reply.missing.size(), reply.errors.size()});
           out.size() > most_bytes && most > 0; most /= 2) {
        for (auto* list : {&reply.paths, &reply.missing, &reply.errors}) list->resize(std::min(list->size(), most));
        out = to_bencode(reply);
      }
    return out;
  }
  template <class Request>
  Task<Answer> give(std::string key, Request request, std::function<Task<typename Request::Reply>(Request)> work) {
    const auto find = [this, key] { return db_.find_answer(key); };
    if (const auto known = co_await run_on(workers_.brief(), find)) co_return from_bencode<Answer>(*known);
    Answer out;
    std::string kept;
    try {
      const auto reply = co_await work(std::move(request));
      out.body = to_bencode(reply);
      kept = shortened(reply);
    } catch (const Error& error) {
      out.status = error.status();
      out.error = error.what();
    }
    // What could not be done as the node goes is for the next one to do.
    if (out.status != Status::ok && workers_.stopping()) throw Error(out.status, out.error);
    if (kept.size() > most_bytes) co_return out;
    Answer answer = out;
    answer.body = std::move(kept);
    const auto keep = [this, key, text = to_bencode(answer)] { db_.put_answer(key, std::time(nullptr), text); };
    try {
      co_await run_on(workers_.brief(), keep);
    } catch (const std::exception&) {
      // Where it cannot be written down, it is given all the same.
    }
    co_return out;
  }

  Workers& workers_;
  StateDb& db_;
  SingleFlight<std::string, Answer> under_way_;
};

}  // namespace mesh
