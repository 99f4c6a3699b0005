// Configuration files: options are set or an error names the file; nothing else comes out.
#include <cstdint>
#include <cstdlib>
#include <sstream>

#include "config.h"
#include "core/error.h"
#include "wire/endpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  CLI::App app("fuzz", "meshseed");
  std::string files;
  std::vector<std::string> trackers;
  std::vector<std::string> ignore;
  std::string hash;
  std::int64_t rate = 0;
  int most = 1;
  bool head = false;
  app.add_option("--files", files);
  app.add_option("--tracker", trackers)->delimiter(',')->allow_extra_args(false);
  app.add_option("--ignore", ignore)->allow_extra_args(false);
  app.add_option("--hash", hash)->check(CLI::IsMember({"ondemand", "eager"}));
  app.add_option("--max-down", rate)->transform(CLI::AsSizeValue(true));
  app.add_option("--max-active", most)->check(CLI::Range(1, 1000));
  app.add_flag("--head", head);
  std::istringstream in(std::string(reinterpret_cast<const char*>(data), size));
  try {
    mesh::apply_config(app, in, "mesh.conf");
  } catch (const mesh::Error& error) {
    if (!std::string_view(error.what()).starts_with("mesh.conf: ")) std::abort();
    return 0;
  }
  if (most < 1 || most > 1000 || rate < 0 || (!hash.empty() && hash != "ondemand" && hash != "eager")) std::abort();
  for (const auto& tracker : trackers) try {
      if (mesh::parse_host_port(tracker).host.size() > tracker.size()) std::abort();
    } catch (const mesh::Error&) {
    }
  return 0;
}
