#include "node/own_identity.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "core/format.h"
#include "core/merkle.h"
#include "wire/mesh_key.h"

namespace mesh {
namespace {

constexpr const char* identity_name = "identity";
constexpr const char* place_name = "identity-place";

Digest<32> place_of(const StateDir& state) {
  std::string machine;
  for (const char* file : {"/etc/machine-id", "/var/lib/dbus/machine-id"})
    if (machine.empty()) std::getline(std::ifstream(file), machine);
  struct stat s {};
  if (::fstat(state.fd(), &s) != 0)
    throw Error(Status::failed, printable(state.path().string()) + ": cannot be looked at");
  return sha256("meshswarm place 1\n" + machine + "\n" + std::to_string(s.st_ino));
}

IdentityPtr read_identity(const StateDir& state) {
  return std::make_shared<const Identity>(state.secret(identity_name, [] { return random_secret(); }));
}

}  // namespace

IdentityPtr known_identity(const StateDir& state) { return read_identity(state); }

IdentityPtr new_identity() { return std::make_shared<const Identity>(random_secret()); }

void set_identity(const StateDir& state, const Identity& identity) {
  // In this order: whatever is left by an interruption is that of another place still.
  state.set_secret(identity_name, identity.seed());
  state.set_secret(place_name, place_of(state));
}

IdentityPtr identity_of(const StateDir& state, const Log& log) {
  const auto place = place_of(state);
  if (state.secret(place_name, [&] { return place; }) == place) return read_identity(state);
  auto out = new_identity();
  set_identity(state, *out);
  log(printable(state.path().string()) +
      ": is a copy of another node's state directory, or was restored: this node has an identity of its own, " +
      out->instance());
  return out;
}

bool keep_identity(const StateDir& state, const Identity& identity) {
  struct stat s {};
  if (::fstatat(state.fd(), identity_name, &s, AT_SYMLINK_NOFOLLOW) == 0) return false;
  set_identity(state, identity);
  return true;
}

}  // namespace mesh
