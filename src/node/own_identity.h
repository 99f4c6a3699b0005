// Which identity (wire/identity.h) a node has: the one in its state directory, while that is where it was made. A
// directory that was copied, with a machine or on one, has that of another node, which may be in the mesh as well: it
// is made anew there.
//
// The place is the machine's id (machine-id(5)) and the inode of the directory, so that one that is moved within its
// file system keeps it. Both are compared as a hash. Calls block, briefly.
#pragma once

#include "core/log.h"
#include "disk/state_dir.h"
#include "wire/identity.h"

namespace mesh {

/// The identity of the node of this state directory; made at first use, and where the directory is a copy of another,
/// which `log` is told. Throws Error(failed).
[[nodiscard]] IdentityPtr identity_of(const StateDir& state, const Log& log);
/// The one that is written there, of whose place another program, which runs on it, has made sure. Throws
/// Error(failed).
[[nodiscard]] IdentityPtr known_identity(const StateDir& state);
/// One that nobody has.
[[nodiscard]] IdentityPtr new_identity();
/// It is the node's from the next start on. Throws Error(failed).
void set_identity(const StateDir& state, const Identity& identity);
/// Writes it down again where that was taken away; false where it was not.
bool keep_identity(const StateDir& state, const Identity& identity);

}  // namespace mesh
