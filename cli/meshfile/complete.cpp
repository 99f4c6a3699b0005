#include <algorithm>
#include <array>

#include "core/format.h"
#include "core/mesh_path.h"
#include "meshfile/commands.h"
#include "meshfile/shared.h"

namespace mesh::meshfile {

Task<Status> complete(const NodeOptions& node, const Asked& asked, const Handlers& handlers) {
  constexpr std::size_t most = 1000;
  constexpr std::array<std::string_view, 6> others = {"-", "file:", "path:", "tar:", "http://", "https://"};
  std::string_view word = asked.path;
  std::string lead;
  const auto strip = [&](std::string_view prefix) {
    if (!word.starts_with(prefix)) return;
    lead += prefix;
    word.remove_prefix(prefix.size());
  };
  strip("tar:");
  strip("file:");
  strip("path:");
  if (const auto inside = files_dir(node).relative(word); inside && inside->size() < word.size()) {
    const auto before = word.substr(0, word.size() - inside->size());
    if (before.ends_with('/')) strip(before);
  }
  while (word.starts_with('/')) strip("/");
  const auto slash = word.rfind('/');
  List question;
  question.pattern = slash == std::string_view::npos ? "" : std::string(word.substr(0, slash));
  question.prefix = std::string(slash == std::string_view::npos ? word : word.substr(slash + 1));
  question.local = asked.local;
  if (!question.pattern.empty() && !is_mesh_path(question.pattern)) co_return Status::ok;
  // Nobody waits for a node at the key that is pressed.
  ChannelPtr channel = co_await find_node(node);
  if (!channel && !asked.local) channel = co_await find_tracker(node);
  if (!channel) co_return Status::unreachable;
  spawn(co_await asio::this_coro::executor, channel->run(handlers));
  std::size_t said = 0;
  do {
    const Listed page = co_await channel->request(question, std::chrono::seconds(3));
    for (const auto& item : page.items) {
      if (printable(item.entry.path) != item.entry.path || ++said > most) continue;
      // What would be read as something else than a path is one behind a '/'.
      const auto& path = item.entry.path;
      const bool is_other =
          lead.empty() && std::ranges::any_of(others, [&](std::string_view other) { return path.starts_with(other); });
      std::printf("%s%s%s%s\n", lead.c_str(), is_other ? "/" : "", path.c_str(),
                  item.entry.kind == Kind::directory ? "/" : "");
    }
    question.after = page.next;
  } while (!question.after.empty() && said < most);
  co_return Status::ok;
}

}  // namespace mesh::meshfile
