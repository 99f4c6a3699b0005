// What the requests of both kinds of stores are made of, and what their answers may mean.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "store/store_link.h"

namespace mesh {

/// "https://HOST:PORT/PATH": the scheme with its slashes, HOST:PORT, and the path without a slash at the end.
[[nodiscard]] std::array<std::string, 3> endpoint_parts(const std::string& endpoint);
/// "?a=b&c=d", or nothing, as it was signed.
[[nodiscard]] std::string encoded_query(std::vector<std::pair<std::string, std::string>> query);
/// A number in a header; -1 where it is none.
[[nodiscard]] std::int64_t header_number(const std::string& text);
[[nodiscard]] std::string without_quotes(std::string etag);
/// Whether an ETag can be an MD5: encrypted with a key of one's own, say, it is something else.
[[nodiscard]] bool is_md5(const std::string& etag);

/// The store does not know If-None-Match of what is put (501).
struct NoConditions : Error {
  using Error::Error;
};
/// What an answer to a put means that is no success: NoConditions, refused where there is one already, or else.
[[noreturn]] void throw_put_trouble(const StoreLink& link, const StoreAnswer& answer, const ObjectStore& store,
                                    const StoreCall& call, bool is_conditional);
[[nodiscard]] Error there_already(const StoreCall& call);
[[nodiscard]] Error got_something_else(const StoreCall& call);

}  // namespace mesh
