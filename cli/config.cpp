#include "config.h"

#include <algorithm>
#include <set>
#include <string_view>

#include "core/error.h"
#include "core/format.h"

namespace mesh {
namespace {

/// Every key that a configuration file may have: one file serves all commands, each of which takes what it knows.
const std::set<std::string> known_keys = {"files",
                                          "state",
                                          "control",
                                          "tracker",
                                          "open",
                                          "key",
                                          "log-level",
                                          "log-format",
                                          "listen",
                                          "advertise",
                                          "name",
                                          "head",
                                          "follow",
                                          "ignore",
                                          "peer",
                                          "discover",
                                          "control-group",
                                          "control-allow",
                                          "max-connections",
                                          "max-per-address",
                                          "hash",
                                          "linger",
                                          "max-down",
                                          "max-up",
                                          "max-active",
                                          "refuse",
                                          "max-log-lines",
                                          "http",
                                          "http-allow",
                                          "http-name",
                                          "http-token",
                                          "cache",
                                          "url-ignore",
                                          "keep",
                                          "keep-max",
                                          "local-urls",
                                          "max-gets",
                                          "max-peers",
                                          "max-paths",
                                          "max-announced",
                                          "max-announces",
                                          "user",
                                          "tracker-listen",
                                          "tracker-http",
                                          "tracker-http-token"};

}  // namespace

std::vector<ConfigItem> apply_config(CLI::App& app, std::istream& in, const std::string& name) {
  std::vector<CLI::ConfigItem> items;
  std::vector<ConfigItem> sections;
  // Some editors begin UTF-8 with a mark.
  for (const char byte : {'\xef', '\xbb', '\xbf'}) {
    if (in.peek() != static_cast<unsigned char>(byte)) break;
    in.get();
  }
  try {
    items = CLI::ConfigBase().from_config(in);
  } catch (const CLI::Error& error) {
    throw Error(Status::usage, name + ": " + error.what());
  }
  // Where both run on one machine, they cannot have the same ports.
  const bool is_tracker = app.get_name() == "meshtracker";
  constexpr std::string_view of_tracker = "tracker-";
  std::ranges::stable_partition(items, [&](const auto& item) { return item.name.starts_with(of_tracker); });
  for (const auto& item : items) {
    if (!item.parents.empty() && item.parents.front() == "volumes") {
      // CLI11 marks the ends of sections so.
      if (item.name == "++" || item.name == "--") continue;
      if (item.inputs.size() != 1)
        throw Error(Status::usage, name + ": [volumes]: " + printable(item.name) + " is to have one value");
      std::string key;
      for (auto part = item.parents.begin() + 1; part != item.parents.end(); ++part) key += *part + ".";
      sections.push_back({"volumes", key + item.name, item.inputs});
      continue;
    }
    if (!item.parents.empty() && item.parents.front() == "store") {
      if (item.name == "--" || (item.name == "++" && item.parents.size() == 1)) continue;
      if (item.parents.size() != 2) throw Error(Status::usage, name + ": a store's section is [store.NAME]");
      const auto& store = item.parents.back();
      const bool is_name = !store.empty() && store.size() <= 64 && std::ranges::all_of(store, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
      });
      if (!is_name)
        throw Error(Status::usage, name + ": [store." + printable(store) +
                                       "]: a store's name has letters, digits, '-' and '_', and at most 64 of them");
      sections.push_back({"store." + store, item.name == "++" ? std::string() : item.name, item.inputs});
      continue;
    }
    if (!item.parents.empty() || !known_keys.contains(item.name))
      throw Error(Status::usage, name + ": unknown key '" + printable(item.fullname()) + "'");
    if (is_tracker && (item.name == "http" || item.name == "http-token")) continue;
    const bool is_trackers = item.name.starts_with(of_tracker);
    if (is_trackers && !is_tracker) continue;
    auto* option = app.get_option_no_throw("--" + (is_trackers ? item.name.substr(of_tracker.size()) : item.name));
    if (option == nullptr || !option->empty()) continue;
    try {
      if (option->get_expected_max() == 0) {
        if (item.inputs != std::vector<std::string>{"false"})
          option->add_result(item.inputs.empty() ? "true" : item.inputs.front());
      } else {
        for (const auto& input : item.inputs) option->add_result(input);
      }
      if (!option->empty()) option->run_callback();
    } catch (const CLI::Error& error) {
      throw Error(Status::usage, name + ": " + error.what());
    }
  }
  return sections;
}

}  // namespace mesh
