// What a store says: listings and uploads in XML, listings in JSON.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/error.h"
#include "store/listing.h"
#include "store/stores.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mesh;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto check = [&](const auto& read) {
    try {
      read();
    } catch (const Error& error) {
      if (error.status() != Status::failed) std::abort();
    }
  };
  const auto check_page = [&](const ObjectPage& page) {
    for (const auto& object : page.objects)
      if (object.size < 0 || object.mtime < 0 || object.key.size() > 4 * size) std::abort();
  };
  check([&] { check_page(read_s3_listing(text)); });
  check([&] { check_page(read_swift_listing(text, 10)); });
  check([&] { static_cast<void>(read_s3_parts(text)); });
  check([&] { static_cast<void>(read_s3_element(text, "UploadId")); });
  static_cast<void>(read_store_time(text));
  static_cast<void>(read_profile(text, "default"));
  return 0;
}
