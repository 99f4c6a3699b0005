// A request to become a channel, as it was read: for those who accept (wire/server.cpp).
#pragma once

#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/message.hpp>

namespace mesh {

/// To be named before it is handed to a coroutine: GCC 12 copies temporaries of a co_await expression bit by bit.
struct UpgradeRequest {
  boost::beast::http::request<boost::beast::http::empty_body> http;
};

}  // namespace mesh
