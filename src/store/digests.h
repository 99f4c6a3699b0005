// Digests that stores compare what they got with, and the bodies of uploads.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "store/object_store.h"
#include "store/store_link.h"

namespace mesh {

struct Digests {
  std::string sha256;      ///< in hex
  std::string md5;         ///< in hex
  std::string md5_raw;     ///< 16 bytes
  std::string md5_base64;  ///< as Content-MD5 has it
};
/// Of a part of what is to be put; reads it. Throws what `upload.read` throws, and Error(interrupted) when stopped.
[[nodiscard]] Digests digest(const Upload& upload, std::int64_t begin, std::int64_t size, const StoreCall& call);
/// That part as a request's body. `on_progress` hears how far of all it has come.
[[nodiscard]] StoreLink::Body body_of(const Upload& upload, std::int64_t begin, std::int64_t size);

[[nodiscard]] std::string md5_hex(std::string_view bytes);
[[nodiscard]] std::string sha256_hex(std::string_view bytes);

}  // namespace mesh
