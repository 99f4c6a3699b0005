#include "node/node_options.h"

#include <unistd.h>

#include "core/address.h"
#include "core/error.h"
#include "core/format.h"
#include "core/mesh_path.h"
#include "mesh/gossip.h"
#include "wire/endpoint.h"
#include "wire/identity.h"

namespace mesh {

namespace fs = std::filesystem;

namespace {

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 && name[0] != 0 ? name : "node";
}

}  // namespace

bool may_be_tracker(const NodeOptions& options, const std::string& tracker) {
  const auto at = parse_host_port(tracker);
  return options.is_on_network() || is_loopback_host(at.host);
}

NodeOptions checked(NodeOptions options) {
  std::error_code ec;
  options.files = fs::absolute(options.files, ec).lexically_normal();
  if (!options.control.empty()) options.control = fs::absolute(options.control, ec).lexically_normal();
  if (!options.state.empty()) options.state = fs::absolute(options.state, ec).lexically_normal();
  if (options.name.empty()) options.name = host_name();
  if (const auto fault = node_name_fault(options.name); !fault.empty()) throw Error(Status::usage, "--name " + fault);
  if (!options.is_on_network()) {
    const auto refuse = [](const std::string& what) {
      return Error(Status::usage, what +
                                      " is not on loopback; without --key FILE (only members), or --open (everyone "
                                      "who reaches the ports may use them), all stays on loopback");
    };
    for (const auto& tracker : options.trackers)
      if (!may_be_tracker(options, tracker)) throw refuse("--tracker " + tracker);
    for (const auto& peer : options.peers)
      if (!is_loopback_host(parse_host_port(peer, default_peer_port).host)) throw refuse("--peer " + peer);
    for (const auto& address : options.advertise)
      if (!is_loopback_host(address)) throw refuse("--advertise " + address);
    if (!options.listen.empty() && !is_loopback_host(parse_host_port(options.listen).host))
      throw refuse("--listen " + options.listen);
    if (!options.http.empty() && !is_loopback_host(parse_host_port(options.http).host))
      throw refuse("--http " + options.http);
  }
  const auto real = fs::weakly_canonical(options.files, ec);
  const FilesDir files{options.files.string(), ec ? std::string() : real.string()};
  for (auto& glob : options.keep) {
    const auto what = parse_what(glob, files);
    if (!what.url.empty() || what.id.is_set() || what.pattern.empty())
      throw Error(Status::usage, "--keep " + printable(glob) + ": is no path or glob of the mesh (** is all of it)");
    glob = portable_text(what);
  }
  for (const auto& tracker : options.trackers) static_cast<void>(may_be_tracker(options, tracker));
  for (const auto& peer : options.peers) static_cast<void>(parse_host_port(peer, default_peer_port));
  for (const auto& address : options.advertise)
    if (boost::system::error_code bad; asio::ip::make_address(address, bad), bad)
      throw Error(Status::usage, "--advertise " + printable(address) + ": is no IP address");
  return options;
}

}  // namespace mesh
