// A page in a browser that shows the mesh, served by a node's --http and by a tracker's (docs/decisions/0033).
//
// All that is shown is asked of the service's own handlers, as its commands ask them: at most once for everybody who
// looks, and only while somebody does. What the page is made of is the same in every program, and anybody may load it;
// what it asks for goes by the listener's rules. On the listener's loop.
#pragma once

#include <memory>
#include <set>
#include <string>

#include "wire/channel.h"
#include "wire/http_listener.h"

namespace mesh {

class Page {
 public:
  struct Options {
    std::string name;               ///< of the node, or the host
    std::string program;            ///< meshseed or meshtracker
    std::set<std::string> allowed;  ///< what it may have done: get, cancel, delete, cache
  };
  /// `handlers` outlive it; before anybody asks.
  Page(asio::io_context& io, HttpListener& listener, const Handlers& handlers, Options options);
  /// Nothing is asked of the handlers any more.
  ~Page();
  Page(const Page&) = delete;
  Page& operator=(const Page&) = delete;

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace mesh
