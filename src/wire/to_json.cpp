#include "wire/to_json.h"

#include <algorithm>

namespace mesh {

using nlohmann::json;

std::int64_t from_mesh(const TransferInfo& info) {
  return is_seeding(info.state) ? 0 : std::max<std::int64_t>(0, info.done - info.from_origin - info.reused);
}

std::string to_text(const json& value, int indent) {
  return value.dump(indent, ' ', false, json::error_handler_t::replace);
}

const char* kind_name(Kind kind) {
  switch (kind) {
    case Kind::file:
      return "file";
    case Kind::directory:
      return "directory";
    case Kind::link:
      return "link";
    case Kind::outside:
      return "outside";
  }
  return "unknown";
}

json to_json(const FileEntry& entry) {
  json out = {{"path", entry.path},
              {"kind", kind_name(entry.kind)},
              {"size", entry.kind == Kind::directory ? 0 : entry.size},
              {"mtime_ns", entry.mtime},
              {"mode", entry.mode}};
  if (!entry.target.empty()) out["target"] = entry.target;
  if (!entry.origin.empty()) out["origin"] = entry.origin;
  if (entry.id.is_set()) out["content_id"] = entry.id.hex();
  return out;
}

json to_json(const NodeStatus& status) {
  json transfers = json::array();
  for (const auto& t : status.transfers)
    transfers.push_back({{"path", t.path},
                         {"state", to_text(t.state)},
                         {"done", t.done},
                         {"total", t.total},
                         {"rate", t.down_rate},
                         {"up_rate", t.up_rate},
                         {"sent", t.sent},
                         {"from_origin", t.from_origin},
                         {"from_mesh", from_mesh(t)},
                         {"bytes_reused", t.reused},
                         {"bytes_fetched", from_mesh(t) + t.from_origin},
                         {"peers", t.peers},
                         {"infohash", t.infohash},
                         {"eta_seconds", t.eta},
                         {"queued", t.queued},
                         {"detail", t.detail}});
  json gets = json::array();
  for (const auto& get : status.gets)
    gets.push_back({{"number", get.number},
                    {"whats", get.whats},
                    {"state", to_text(get.state)},
                    {"detail", get.detail},
                    {"detached", get.detached},
                    {"files_done", get.files_done},
                    {"files_total", get.files_total},
                    {"done", get.done},
                    {"total", get.total},
                    {"rate", get.rate},
                    {"status", get.status},
                    {"errors", get.errors}});
  return {{"node", status.node},
          {"error", status.error},
          {"tracker_connected", status.tracker_connected},
          {"members_known", status.members},
          {"bytes_cached", status.cached},
          {"version", status.version},
          {"bytes_space", status.space},
          {"bytes_free", status.free},
          {"entries", status.files},
          {"torrents_loaded", status.torrents_loaded},
          {"gets", gets},
          {"transfers", transfers}};
}

}  // namespace mesh
