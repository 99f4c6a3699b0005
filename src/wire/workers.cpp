#include "wire/workers.h"

#include <boost/asio/thread_pool.hpp>

namespace mesh {

struct Workers::Pools {
  asio::thread_pool brief{4};
  asio::thread_pool reading{2};
  asio::thread_pool copying{2};
  asio::thread_pool origins{16};
};

Workers::Workers(asio::io_context& loop) : loop_(loop), pools_(std::make_unique<Pools>()), stopped_(loop) {}
Workers::~Workers() = default;
asio::thread_pool& Workers::brief() { return pools_->brief; }
asio::thread_pool& Workers::reading() { return pools_->reading; }
asio::thread_pool& Workers::copying() { return pools_->copying; }
asio::thread_pool& Workers::origins() { return pools_->origins; }

void Workers::stop() {
  stopping_ = true;
  stopped_.notify();
}

void Workers::join() {
  pools_->brief.join();
  pools_->reading.join();
  pools_->copying.join();
  pools_->origins.join();
}

}  // namespace mesh
