#include "page/orders.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/http_request.h"
#include "core/mesh_path.h"

namespace mesh {
namespace {

using json = nlohmann::json;

constexpr std::size_t most_whats = 1'000;
constexpr std::size_t most_what_bytes = 3 * max_path_bytes;

Error wrong(const std::string& what) { return {Status::usage, "the request " + what}; }

void take_texts(const json& in, const char* key, std::vector<std::string>& out,
                std::string (*read)(const std::string&)) {
  const auto list = in.find(key);
  if (list == in.end()) return;
  if (!list->is_array() || list->size() + out.size() > most_whats)
    throw wrong("has no list of at most " + std::to_string(most_whats) + " texts as '" + key + "'");
  for (const auto& one : *list) {
    if (!one.is_string() || one.get_ref<const std::string&>().size() > most_what_bytes)
      throw wrong("has something else than a path in '" + std::string(key) + "'");
    out.push_back(read(one.get_ref<const std::string&>()));
  }
}

std::string read_what(const std::string& said) {
  if (said.empty()) throw wrong("has an empty WHAT");
  return said;
}

std::string read_path(const std::string& said) {
  const auto target = read_target("/" + said);
  if (!target || !is_mesh_path(target->path.substr(1))) throw wrong("has a path that is none");
  return path_text(target->path.substr(1));
}

void take_numbers(const json& in, std::vector<std::int64_t>& out) {
  const auto list = in.find("numbers");
  if (list == in.end()) return;
  if (!list->is_array() || list->size() > most_whats) throw wrong("has no list of numbers as 'numbers'");
  for (const auto& one : *list) {
    if (!one.is_number_integer()) throw wrong("has something else than a number in 'numbers'");
    out.push_back(one.get<std::int64_t>());
  }
}

bool flag(const json& in, const char* key) {
  const auto it = in.find(key);
  if (it == in.end()) return false;
  if (!it->is_boolean()) throw wrong("has no true or false as '" + std::string(key) + "'");
  return it->get<bool>();
}

}  // namespace

PageOrder read_page_order(std::string_view body) {
  const auto in = json::parse(body, nullptr, false);
  if (!in.is_object()) throw wrong("is no JSON object");
  PageOrder out;
  take_texts(in, "whats", out.whats, read_what);
  take_texts(in, "paths", out.whats, read_path);
  take_numbers(in, out.numbers);
  out.discard = flag(in, "discard");
  out.force = flag(in, "force");
  return out;
}

}  // namespace mesh
