// The state database of a node that was torn, or written by something else: opened as it is or begun anew, and whatever
// is read from it is used as the node uses it. The input overwrites parts of a database that has all there can be.
#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "core/error.h"
#include "library/state_db.h"
#include "wire/codec.h"
#include "wire/messages.h"

namespace {

using namespace mesh;
namespace fs = std::filesystem;

const ContentId id = *ContentId::from(std::string(32, 'i'));
const FileStamp stamp{1, 2, 3, 4, 5};

fs::path directory() {
  static const fs::path path = [] {
    std::string name = "/dev/shm/meshswarm-fuzz-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    static const std::string made = name;
    std::atexit([] { fs::remove_all(made); });
    return fs::path(name);
  }();
  return path;
}

void use(StateDb& db) {
  static_cast<void>(db.find_hash(stamp));
  static_cast<void>(db.find_received("a/b", stamp));
  static_cast<void>(db.find_roots(id));
  static_cast<void>(db.find_standard_torrent(id));
  static_cast<void>(db.find_standard_torrent(*InfoHash::from(std::string(20, 'h'))));
  static_cast<void>(db.find_part(id));
  for (const auto& part : db.parts()) static_cast<void>(db.find_part(part.first));
  static_cast<void>(db.parts_of("a/b"));
  for (const auto& [number, request] : db.gets()) try {
      static_cast<void>(from_bencode<Get>(request));
    } catch (const CodecError&) {
    }
  for (const auto& outcome : db.ended()) try {
      static_cast<void>(from_bencode<GetInfo>(outcome));
    } catch (const CodecError&) {
    }
  static_cast<void>(db.find_note("key"));
  db.put_note("key", "other");
  db.put_hash(stamp, id);
  db.remove_part(id);
}

std::string template_database() {
  const auto file = directory() / "template";
  {
    StateDb db(file);
    Get get;
    get.whats = {"a/b"};
    db.put_hash(stamp, id);
    db.put_received("a/b", stamp, id);
    db.put_standard_torrent({id, *InfoHash::from(std::string(20, 'h')), "d4:name1:ae"});
    db.put_roots(id, std::string(64, 'r'));
    db.put_part({id, std::string(3, '\1'), std::string(96, 'r'), "a/b"});
    db.add_get(to_bencode(get));
    db.put_ended(1, to_bencode(GetInfo{}));
    db.put_note("key", "text");
  }
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::string whole = template_database();
  auto bytes = whole;
  // Each: where, how many, and the bytes; the last one may cut the file.
  for (std::size_t at = 0; at + 4 <= size;) {
    const std::size_t where =
        (std::size_t{data[at]} << 16 | std::size_t{data[at + 1]} << 8 | data[at + 2]) % bytes.size();
    const std::size_t count = std::min<std::size_t>({data[at + 3] % 32U, size - at - 4, bytes.size() - where});
    bytes.replace(where, count, reinterpret_cast<const char*>(data) + at + 4, count);
    at += 4 + count;
    if (count == 0 && size - at < 4) bytes.resize(where + 1);
  }
  const auto file = directory() / "db";
  for (const char* tail : {"", "-wal", "-shm", ".unreadable"}) fs::remove(file.string() + tail);
  std::ofstream(file, std::ios::binary) << bytes;
  StateDb db(file);  // does not throw: the directory can be written
  use(db);
  return 0;
}
