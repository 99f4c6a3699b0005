#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/format.h"
#include "core/mesh_path.h"
#include "library/maker.h"
#include "meshfile/commands.h"
#include "meshfile/shared.h"

namespace mesh::meshfile {
namespace {

std::string shell_quoted(const std::string& text) {
  if (!text.empty() &&
      text.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-+=/:") ==
          std::string::npos)
    return text;
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

}  // namespace

Task<Status> torrent(const NodeOptions& node, const Asked& asked, const Handlers& handlers) {
  TorrentAsk question;
  question.path = path_named(asked.path, node);
  question.seconds = asked.seconds;
  const TorrentFile reply = co_await ask(node, handlers, false, question, std::chrono::hours(24));
  std::vector<std::string> urls;
  if (asked.seconds > 0 && !reply.guest)
    throw Error(Status::failed, "guest torrents are a node's, and none runs on " + node.files.string());
  for (const auto& tracker : reply.trackers) urls.push_back("http://" + tracker + "/announce");
  const auto bytes = torrent_file(reply.torrent.info, urls);
  // By what was asked for: the other side's word is no name for a file here.
  const std::string name(last_part(question.path));
  const auto output = asked.output.empty() ? name + ".torrent" : asked.output;
  if (output == "-") {
    std::fwrite(bytes.data(), 1, bytes.size(), stdout);
  } else {
    // A guest's is a secret: who has it may have the file.
    const Fd out(::open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, reply.guest ? 0600 : 0666));
    struct stat s {};
    const bool is_file = out && ::fstat(out.get(), &s) == 0 && S_ISREG(s.st_mode);
    if (!out || (reply.guest && is_file && ::fchmod(out.get(), 0600) != 0) ||
        ::write(out.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
      throw Error(Status::failed, output + ": cannot be written: " + std::generic_category().message(errno));
    std::error_code ec;
    const auto path = std::filesystem::absolute(output, ec).string();
    if (asked.as_json)
      print({{"torrent", path},
             {"infohash", reply.torrent.infohash.hex()},
             {"content_id", reply.torrent.id.hex()},
             {"name", name},
             {"trackers", urls}});
    else
      std::printf("%s\n", path.c_str());
  }
  if (urls.empty()) say("meshfile", "the torrent names no tracker, as none answers: other clients find nobody by it");
  if (!asked.as_json && !reply.guest)
    say("meshfile", "the torrent's file is named by its content; aria2c " + shell_quoted("--index-out=1=" + name) +
                        " restores the name (other clients: rename " + reply.torrent.id.hex() + ")");
  co_return Status::ok;
}

}  // namespace mesh::meshfile
