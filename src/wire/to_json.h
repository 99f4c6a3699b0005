// What programs are told, as JSON: the same from the commands and over HTTP. Pure.
#pragma once

#include <nlohmann/json.hpp>

#include "core/entry.h"
#include "wire/messages.h"

namespace mesh {

[[nodiscard]] const char* kind_name(Kind kind);
[[nodiscard]] nlohmann::json to_json(const FileEntry& entry);
[[nodiscard]] nlohmann::json to_json(const NodeStatus& status);
/// With bytes that are not UTF-8 replaced.
[[nodiscard]] std::string to_text(const nlohmann::json& value, int indent);

/// Of a transfer: the bytes that came from other nodes.
[[nodiscard]] std::int64_t from_mesh(const TransferInfo& info);

}  // namespace mesh
