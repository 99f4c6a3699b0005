#include "core/merkle.h"

#include <libtorrent/bencode.hpp>
#include <libtorrent/create_torrent.hpp>
#include <libtorrent/entry.hpp>
#include <libtorrent/file_storage.hpp>
#include <libtorrent/torrent_info.hpp>

#include "core/piece_plan.h"
#include "test.h"

using namespace mesh;

TEST_CASE("content ids: known values") {
  CHECK(content_id_of_bytes("").hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(content_id_of_bytes("abc") == sha256("abc"));
  // Two leaves: the hash of both hashes.
  const std::string two(block_bytes + 1, 'x');
  const auto left = sha256(two.substr(0, block_bytes)), right = sha256("x");
  CHECK(content_id_of_bytes(two) == sha256(std::string(left.view()) + std::string(right.view())));
  // Three leaves are padded with a zero hash to four.
  const std::string three(2 * block_bytes + 1, 'x');
  const auto low = sha256(std::string(left.view()) + std::string(left.view()));
  const auto high = sha256(std::string(right.view()) + std::string(32, '\0'));
  CHECK(content_id_of_bytes(three) == sha256(std::string(low.view()) + std::string(high.view())));
}

TEST_CASE("content ids: by pieces as by leaves") {
  for (const std::int64_t size : {65537L, 200000L, 262144L, 1000000L}) {
    const auto piece = piece_length_for(size);
    std::string data(static_cast<std::size_t>(size), '\0');
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 7919 >> 3);
    std::vector<Sha256> roots;
    for (std::int64_t at = 0; at < size; at += piece) {
      std::vector<Sha256> leaves;
      const auto part = std::string_view(data).substr(static_cast<std::size_t>(at), static_cast<std::size_t>(piece));
      for (std::size_t b = 0; b < part.size(); b += block_bytes) leaves.push_back(sha256(part.substr(b, block_bytes)));
      roots.push_back(piece_root(leaves, piece));
    }
    CHECK(content_id_of_pieces(roots, piece) == content_id_of_bytes(data));
  }
}

TEST_CASE("content ids: many digests at once are those of each") {
  // Lengths around every boundary of SHA-256's blocks and of the library's limits, nothing, and more messages than
  // lanes.
  std::vector<std::size_t> lengths{0,     1,     55,    56,    63,    64,    65,      119, 120,
                                   16383, 16384, 16385, 65534, 65535, 65536, 200'000, 0};
  for (std::size_t i = 0; i < 300; ++i) lengths.push_back(i * 37);
  std::string data(300'000, '\0');
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 7919 >> 3);
  std::vector<std::string_view> messages;
  for (const auto length : lengths) messages.push_back(std::string_view(data).substr(messages.size(), length));
  for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{3}, messages.size()}) {
    const auto some = std::span(messages).last(count);
    std::vector<Sha256> out(count);
    sha256_each(some, out);
    for (std::size_t i = 0; i < count; ++i) CHECK(out[i] == sha256(some[i]));
    sha256_each(std::span(messages).first(count), out);
    for (std::size_t i = 0; i < count; ++i) CHECK(out[i] == sha256(messages[i]));
  }
}

TEST_CASE("pieces: at most 1,024 of a sensible length") {
  CHECK(piece_length_for(1) == 64 * 1024);
  CHECK(piece_length_for(64 << 20) == 64 * 1024);
  CHECK(piece_count_for(64 << 20) == 1024);
  CHECK(piece_length_for(std::int64_t{1} << 40) == 16 << 20);
  for (std::int64_t size = 1; size < std::int64_t{8} << 30; size = size * 3 + 1) CHECK(piece_count_for(size) <= 1024);
  CHECK(piece_length_for(std::int64_t{1} << 41) == 16 << 20);
  CHECK(piece_count_for(std::int64_t{1} << 41) == 128 * 1024);
  CHECK(piece_length_for((std::int64_t{1} << 41) + 1) == 32 << 20);
  CHECK(piece_length_for(most_torrent_bytes) == 128 << 20);  // of blocks, libtorrent takes less than 2^15
  CHECK(piece_count_for(most_torrent_bytes) == 128 * 1024);
  CHECK(piece_length_for(INT64_MAX) == 128 << 20);
  CHECK(piece_count_for(INT64_MAX) == 128 * 1024);
  // And it takes such a torrent.
  lt::entry info;
  info["length"] = most_torrent_bytes;
  info["name"] = "x";
  info["piece length"] = piece_length_for(most_torrent_bytes);
  info["pieces"] = std::string(std::size_t{20} * 128 * 1024, 'x');
  std::string file = "d4:info";
  lt::bencode(std::back_inserter(file), info);
  file += "e";
  lt::error_code ec;
  const lt::torrent_info taken(lt::span<char const>(file.data(), static_cast<std::ptrdiff_t>(file.size())), ec,
                               lt::from_span);
  CHECK_FALSE(ec);
}
