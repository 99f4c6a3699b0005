// A node's HTTP gateway, and what it tells of the node.
#include "core/address.h"
#include "node/node.h"
#include "serve/http_gateway.h"
#include "serve/http_token.h"
#include "serve/range_teller.h"
#include "serve/to_json.h"
#include "transfer/read_cache.h"
#include "wire/endpoint.h"
#include "wire/mesh_key.h"

namespace mesh {
namespace {

/// How it was set up, without what is secret.
nlohmann::json config_of(const NodeOptions& options) {
  nlohmann::json follow = nlohmann::json::array();
  for (const auto& directory : options.follow) follow.push_back(directory.string());
  return {{"name", options.name},
          {"files", options.files.string()},
          {"state", options.state_dir().string()},
          {"control", options.control_socket().string()},
          {"control_group", options.control_group},
          {"trackers", options.trackers},
          {"peers", options.peers},
          {"discover", options.discover},
          {"listen", options.listen},
          {"advertise", options.advertise},
          {"http", options.http},
          {"http_names", options.http_names},
          {"head", options.head},
          {"open", options.open},
          {"has_key", options.keys != nullptr},
          {"follow", follow},
          {"ignore", options.ignore},
          {"keep", options.keep},
          {"keep_max", options.keep_max},
          {"cache", options.cache},
          {"hash", options.hash_eagerly ? "eager" : "ondemand"},
          {"refuse", options.refuse},
          {"max_down", options.max_down},
          {"max_up", options.max_up},
          {"max_active", options.max_active},
          {"max_gets", options.max_gets},
          {"max_peers", options.max_peers}};
}

}  // namespace

void Node::listen_for_http() {
  if (options_.http.empty()) return;
  const auto where = parse_host_port(options_.http);
  boost::system::error_code ec;
  const auto address = asio::ip::make_address(where.host == "localhost" ? "127.0.0.1" : where.host, ec);
  if (ec) throw Error(Status::usage, "--http " + printable(options_.http) + ": is no IP address and port");
  HttpGateway::Options options;
  options.names = options_.access().http_names;
  options.token =
      options_.http_token.empty() ? state_->secret("http-token", random_secret).hex() : token_of(options_.http_token);
  options.stall = options_.read_patience;
  HttpGateway::Facts facts;
  facts.config = [this] { return to_text(config_of(options_), 1) + "\n"; };
  facts.stats = [this]() -> Task<std::string> {
    const CacheUsage usage = co_await read_cache_->usage();
    auto out = to_json(status());
    out["cache"] = {{"bytes", usage.bytes},
                    {"most_bytes", usage.most_bytes},
                    {"contents", usage.contents},
                    {"open", usage.open},
                    {"unsaved", usage.unsaved}};
    out["http_connections"] = gateway_->connections();
    out["profiles"] = library_->db().profiles();
    out["ranges_sent"] = range_teller_->sent();
    co_return to_text(out, 1) + "\n";
  };
  gateway_ = std::make_unique<HttpGateway>(
      asio::ip::tcp::endpoint(address, where.port), std::move(options), std::move(facts),
      ReadFrom{*workers_, *library_, *session_, *links_, *node_channels_, *read_cache_, *profiles_, *prefetcher_},
      *getter_);
}

}  // namespace mesh
