// The heap after a burst.
#pragma once

#include <malloc.h>

namespace mesh {

/// Gives memory that is free inside the heap back to the system where it is much: glibc does so by itself only at the
/// heap's end. Takes milliseconds; any thread.
inline void give_back_memory() {
  constexpr std::size_t much = std::size_t{16} << 20;
  if (::mallinfo2().fordblks > much) ::malloc_trim(0);
}

}  // namespace mesh
