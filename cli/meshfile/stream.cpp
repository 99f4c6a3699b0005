#include <unistd.h>
#include <cerrno>

#include "meshfile/commands.h"
#include "meshfile/shared.h"

namespace mesh::meshfile {

void write_out(const std::string& data) {
  for (std::size_t at = 0; at < data.size();) {
    const auto n = ::write(STDOUT_FILENO, data.data() + at, data.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      say("meshfile", "stdout: cannot be written: " + std::generic_category().message(errno));
      std::_Exit(static_cast<int>(Status::failed));
    }
    at += static_cast<std::size_t>(n);
  }
}

Task<Status> stream(const NodeOptions& node, const Asked& asked, const Handlers& handlers) {
  // The bytes go to stdout as they come; where the node goes away, what it has not sent yet is asked for when it is
  // back.
  const auto request = std::make_shared<Stream>(asked.stream);
  request->path = asked.path;
  Handlers with_bytes = handlers;
  with_bytes.on_note<StreamBegin>([request](const ChannelPtr&, StreamBegin file) { request->id = file.id; });
  with_bytes.on_note<StreamData>([request](const ChannelPtr&, StreamData note) {
    write_out(note.data);
    request->offset += std::ssize(note.data);
  });
  Conversation conversation(node, with_bytes, true);
  std::optional<StreamEnd> done;
  while (!done) done = co_await conversation.ask_once(request, std::chrono::hours(24 * 365));
  const StreamEnd end = *done;
  if (asked.as_json) {
    const json out = {{"size", end.size}, {"from_sources", end.from_sources}, {"from_getters", end.from_getters}};
    std::fprintf(stderr, "%s\n", out.dump().c_str());
  }
  co_return Status::ok;
}

}  // namespace mesh::meshfile
