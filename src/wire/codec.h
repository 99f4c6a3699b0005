// Values to bencode (BEP 3) and back. A message is a struct whose `describe(v)` names its fields once; this file writes
// and reads all of them. Reading is bounded: bdecode's depth and token limits, and by the caller's limit on the frame.
//
// Empty texts and lists, false and the like are left out and unknown keys are ignored, so that versions can differ by a
// field. Numbers and a Status are always said: the default of some numbers is not 0. A Status that is not known is a
// failure; any other enum's unknown value is no message.
// Pure; any thread.
#pragma once

#include <concepts>
#include <cstdint>
#include <libtorrent/bdecode.hpp>
#include <libtorrent/bencode.hpp>
#include <libtorrent/entry.hpp>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "core/digest.h"
#include "core/error.h"

namespace mesh {

/// Bytes that are no message of the expected shape.
class CodecError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// In one list of a message; senders page well below it.
inline constexpr int max_list_items = 100'000;

namespace codec {

struct Probe {
  template <class T>
  void operator()(const char*, T&) {}
};
template <class T>
concept Described = requires(T t, Probe p) { t.describe(p); };

template <class T>
struct is_vector : std::false_type {};
template <class T>
struct is_vector<std::vector<T>> : std::true_type {};
template <class T>
struct is_digest : std::false_type {};
template <std::size_t N>
struct is_digest<Digest<N>> : std::true_type {};

template <class T>
lt::entry encode(const T& value);

struct Encoder {
  lt::entry::dictionary_type& out;
  template <class T>
  void operator()(const char* key, T& value) {
    if constexpr (is_vector<T>::value) {
      if (value.empty()) return;
    } else if constexpr (!Described<T> && !std::is_same_v<T, Status> &&
                         (!std::is_integral_v<T> || std::is_same_v<T, bool>)) {
      if (value == T{}) return;
    }
    out.emplace(key, encode(value));
  }
};

template <class T>
lt::entry encode(const T& value) {
  if constexpr (std::is_same_v<T, std::string>) {
    return {value};
  } else if constexpr (is_digest<T>::value) {
    return {std::string(value.view())};
  } else if constexpr (std::is_enum_v<T> || std::is_integral_v<T>) {
    return {static_cast<lt::entry::integer_type>(value)};
  } else if constexpr (is_vector<T>::value) {
    lt::entry list(lt::entry::list_t);
    auto& items = list.list();
    items.reserve(value.size());
    for (const auto& item : value) items.push_back(encode(item));
    return list;
  } else {
    static_assert(Described<T>);
    lt::entry dict(lt::entry::dictionary_t);
    Encoder encoder{dict.dict()};
    const_cast<T&>(value).describe(encoder);  // describe only hands out references, and Encoder only reads them
    return dict;
  }
}

template <class T>
void decode(const lt::bdecode_node& node, T& value, const char* key);

struct Decoder {
  const lt::bdecode_node& in;
  template <class T>
  void operator()(const char* key, T& value) {
    if (const auto node = in.dict_find(key)) decode(node, value, key);
  }
};

[[noreturn]] inline void mismatch(const char* key) {
  throw CodecError(std::string("field '") + key + "' has the wrong type or range");
}

template <class T>
void decode(const lt::bdecode_node& node, T& value, const char* key) {
  if constexpr (std::is_same_v<T, std::string>) {
    if (node.type() != lt::bdecode_node::string_t) mismatch(key);
    value = std::string(node.string_value());
  } else if constexpr (is_digest<T>::value) {
    if (node.type() != lt::bdecode_node::string_t) mismatch(key);
    const auto digest = T::from({node.string_ptr(), static_cast<std::size_t>(node.string_length())});
    if (!digest) mismatch(key);
    value = *digest;
  } else if constexpr (std::is_same_v<T, bool>) {
    if (node.type() != lt::bdecode_node::int_t) mismatch(key);
    value = node.int_value() != 0;
  } else if constexpr (std::is_same_v<T, Status>) {
    std::int64_t number = 0;
    decode(node, number, key);
    value = known_result(number);  // that of a later version is a failure
  } else if constexpr (std::is_enum_v<T>) {
    auto number = static_cast<std::underlying_type_t<T>>(0);
    decode(node, number, key);
    value = static_cast<T>(number);
    if (!is_known(value)) mismatch(key);  // beside each enum: what is none of its values
  } else if constexpr (std::is_integral_v<T>) {
    if (node.type() != lt::bdecode_node::int_t) mismatch(key);
    const std::int64_t number = node.int_value();
    if constexpr (std::is_same_v<T, std::uint64_t>) {
      value = static_cast<T>(number);  // travels as the signed number with the same bits
    } else {
      if (!std::in_range<T>(number)) mismatch(key);
      value = static_cast<T>(number);
    }
  } else if constexpr (is_vector<T>::value) {
    if (node.type() != lt::bdecode_node::list_t || node.list_size() > max_list_items) mismatch(key);
    value.clear();
    for (int i = 0; i < node.list_size(); ++i) decode(node.list_at(i), value.emplace_back(), key);
  } else {
    static_assert(Described<T>);
    if (node.type() != lt::bdecode_node::dict_t) mismatch(key);
    Decoder decoder{node};
    value.describe(decoder);
  }
}

}  // namespace codec

/// Appends. (lt::bencode takes an output iterator, and appends long strings byte by byte.)
void write_bencode(const lt::entry& value, std::string& out);

template <codec::Described T>
std::string to_bencode(const T& value) {
  std::string out;
  write_bencode(codec::encode(value), out);
  return out;
}

/// Throws CodecError.
lt::bdecode_node parse_bencode(std::string_view bytes);

template <codec::Described T>
T from_bencode(std::string_view bytes) {
  T value;
  codec::decode(parse_bencode(bytes), value, "message");
  return value;
}

}  // namespace mesh
