// What a coroutine is here, and the few names of Asio that headers need. Headers that only mention these include
// nothing else of Asio's: parsing it is most of what a file costs to compile.
#pragma once

#include <utility>  // Boost 1.74's awaitable.hpp needs it and does not include it

#include <boost/asio/awaitable.hpp>
#include <memory>

namespace boost::asio {
class io_context;
class thread_pool;
}  // namespace boost::asio

namespace mesh {

namespace asio = boost::asio;
template <class T>
using Task = asio::awaitable<T>;

class Channel;
using ChannelPtr = std::shared_ptr<Channel>;

}  // namespace mesh
