// meshvol: a disk for each VM. Parse, call, print.
#include <fcntl.h>
#include <grp.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/io_context.hpp>
#include <csignal>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "client.h"
#include "core/format.h"
#include "core/mesh_path.h"
#include "core/url.h"
#include "core/version_name.h"
#include "disk/copy_bytes.h"
#include "disk/directory.h"
#include "disk/mount_table.h"
#include "disk/tool.h"
#include "library/path_gate.h"
#include "library/temporary.h"
#include "options.h"
#include "unpack/unpacker.h"
#include "volume/use.h"
#include "volume/volumes.h"

namespace mesh {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::json;

/// mosaic's moctl names them so, in the order in which it compares what was typed; behind them, what it has not.
constexpr std::array actions{"mount", "umount", "attach", "detach", "create", "clone", "drop",
                             "info",  "have",   "new",    "list",   "resize", "commit"};

struct Asked {
  bool is_moctl = false;  ///< CONF ACTION ARGUMENTS
  std::string place;
  std::string kind, name, base, directory, mount_options, path;
  std::vector<std::string> names;
  std::string size;
  bool is_recursive = false, as_json = false, is_lazy = false, is_force = false;
  std::string mesh;
  std::string by;
  UnpackLimits limits;
};

void tell(const std::string& text) { say("meshvol", text); }

/// As moctl abbreviates: by any beginning; the first that fits.
std::string action_of(const std::string& typed) {
  for (const std::string action : actions)
    if (!typed.empty() && action.starts_with(typed)) return action == "create" ? "new" : action;
  return {};
}

bool is_action(const std::string& typed) {
  return std::ranges::find(actions, typed) != actions.end() || typed == "unmount";
}

fs::path place_file(const std::string& name) {
  if (name.starts_with('.') || name.starts_with('/')) return name;
  return fs::path("/etc/mesh/volumes") / (name + ".yaml");
}

/// Actions are typed in full or not, behind a place's name or not: as CLI11 is to have them.
std::vector<std::string> spelled_out(const CLI::App& app, int argc, char** argv, bool& is_moctl) {
  std::vector<std::string> words(argv, argv + argc);
  std::size_t at = 1;
  while (at < words.size() && words[at].starts_with("-") && words[at] != "-") {
    const auto* option = app.get_option_no_throw(words[at]);
    const bool takes_next = option != nullptr && option->get_expected_max() > 0;
    at += takes_next ? 2 : 1;
  }
  if (at >= words.size()) return words;
  std::error_code ec;
  const auto first = words[at];
  const bool names_place = !is_action(first) && (first.starts_with('.') || first.starts_with('/') ||
                                                 fs::exists(place_file(first), ec) || action_of(first).empty());
  if (names_place) {
    if (at + 1 >= words.size() || action_of(words[at + 1]).empty()) {
      if (first.starts_with('.') || first.starts_with('/') || fs::exists(place_file(first), ec)) return words;
      throw Error(Status::usage, "'" + printable(first) + "' is no action, and there is no " +
                                     printable(place_file(first).string()) + " (meshvol --help shows the usage)");
    }
    is_moctl = true;
    words[at + 1] = action_of(words[at + 1]);
    words.insert(words.begin() + static_cast<std::ptrdiff_t>(at), "-c");
    return words;
  }
  words[at] = first == "unmount" ? "umount" : action_of(first);
  return words;
}

PlaceOptions place_options(const Asked& asked, const CommonOptions& options) {
  if (!asked.place.empty()) return read_place(place_file(asked.place));
  PlaceOptions out;
  out.said_in = "[volumes]";
  std::map<std::string, bool> seen;
  for (const auto& item : options.volumes) {
    if (std::exchange(seen[item.key], true)) continue;
    try {
      std::error_code ec;
      set_place_key(out, item.key, item.value, fs::absolute(item.file, ec).parent_path());
    } catch (const Error& error) {
      throw Error(Status::usage, item.file.string() + ": [volumes]: " + error.what());
    }
  }
  if (out.location.empty()) out.location = default_location();
  return out;
}

std::int64_t read_size(const std::string& text) {
  std::size_t end = 0;
  long long number = -1;
  try {
    number = std::stoll(text, &end);
  } catch (const std::exception&) {
    end = 0;
  }
  auto unit = text.substr(end);
  std::ranges::transform(unit, unit.begin(), [](char c) { return static_cast<char>(std::toupper(c)); });
  if (unit.ends_with("IB")) unit.resize(unit.size() - 2);
  int shift = -1;
  for (const auto& [name, bits] : {std::pair{"", 0}, {"B", 0}, {"K", 10}, {"M", 20}, {"G", 30}, {"T", 40}})
    if (unit == name) shift = bits;
  if (end == 0 || number < 0 || shift < 0 || number > (std::int64_t{1} << 60) >> shift)
    throw Error(Status::usage,
                "'" + printable(text) + "' is no size: a number of bytes, or one with K, M, G or T (of 1,024)");
  return static_cast<std::int64_t>(number) << shift;
}

/// Root reads and writes in the files directory as whom that belongs to: what its owner, who is no trusted one, could
/// make of paths in it leads root nowhere. While it lives.
class AsOwner {
 public:
  explicit AsOwner(const fs::path& files) {
    struct stat s {};
    if (::geteuid() != 0 || ::stat(files.c_str(), &s) != 0 || s.st_uid == 0) return;
    groups_.resize(static_cast<std::size_t>(std::max(::getgroups(0, nullptr), 0)));
    if (::getgroups(static_cast<int>(groups_.size()), groups_.data()) < 0 || ::setgroups(1, &s.st_gid) != 0 ||
        ::setegid(s.st_gid) != 0 || ::seteuid(s.st_uid) != 0)
      throw Error(Status::failed, "cannot become the owner of " + printable(files.string()));
    is_other_ = true;
  }
  ~AsOwner() {
    if (is_other_ && (::seteuid(0) != 0 || ::setegid(0) != 0 || ::setgroups(groups_.size(), groups_.data()) != 0))
      std::abort();
  }
  AsOwner(const AsOwner&) = delete;
  AsOwner& operator=(const AsOwner&) = delete;

 private:
  bool is_other_ = false;
  std::vector<gid_t> groups_;
};

/// What this machine's files directory has, and how to get what it has not.
class MeshFiles {
 public:
  explicit MeshFiles(const CommonOptions& options) : options_(options), files_(files_dir(options.node)) {}

  [[nodiscard]] const FilesDir& dir() const { return files_; }

  [[nodiscard]] std::optional<MeshImage> open(const std::string& path) {
    std::optional<PathGate::Opened> opened;
    {
      const AsOwner owner(options_.node.files);
      std::error_code ec;
      if (!gate_ && !fs::is_directory(options_.node.files, ec)) return std::nullopt;
      const auto local = gate().look(path);
      if (!local || local->entry.kind == Kind::directory) return std::nullopt;
      opened = gate().open_file_with_entry(path);
    }
    if (PathGate::is_being_written(opened->fd.get()))
      throw Error(Status::refused, printable(path) + ": somebody has it open for writing");
    MeshImage out{path, std::move(opened->fd), opened->local.entry};
    out.entry.id = known_id(out.entry);
    return out;
  }

  /// Puts what `in` has there, `size` bytes, under a name that nobody has, or, with `is_force`, any. Returns its path.
  std::string put(const std::string& path, int in, std::int64_t size, bool is_force) {
    const AsOwner owner(options_.node.files);
    auto shown = gate().absolute(path);
    const auto fail = [&](int error) {
      return Error(
          error == EEXIST ? Status::refused : Status::failed,
          printable(shown) + ": " +
              (error == EEXIST ? "is there already; --force replaces it" : std::generic_category().message(error)));
    };
    const auto parent = gate().open_parent(path);
    const auto name = std::string(last_part(path));
    const auto temporary = std::string(own_temporary_prefix) + new_once();  // is not offered
    const Fd out(::openat(parent.get(), temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!out) throw fail(errno);
    try {
      copy_bytes(in, out.get(), size, [] { return false; });
      if (::fchmod(out.get(), 0644) != 0 || ::fsync(out.get()) != 0) throw fail(errno);
      const int failed = is_force ? ::renameat(parent.get(), temporary.c_str(), parent.get(), name.c_str())
                                  : move_to_free_name(parent.get(), temporary, parent.get(), name);
      if (failed != 0) throw fail(errno);
    } catch (const Error&) {
      ::unlinkat(parent.get(), temporary.c_str(), 0);
      throw;
    }
    ::fsync(parent.get());
    return shown;
  }
  [[nodiscard]] bool has(const std::string& path) {
    const AsOwner owner(options_.node.files);
    return gate().look(path) || gate().is_special(path);
  }

  /// Has the node bring it; returns its mesh path.
  std::string bring(const std::string& what) const {
    auto ran = run_tool(get_words({"--json", what}), true);
    if (ran.status != 0) throw Error(known_status(ran.status), printable(without_secrets(what)) + ": could not be got");
    const auto out = json::parse(ran.out, nullptr, false);
    const json* only = nullptr;
    if (out.is_object() && out.contains("files"))
      for (const auto& file : out["files"])
        if (file.value("what", "") == without_secrets(what) && (only == nullptr)) only = &file;
    if (only == nullptr) throw Error(Status::failed, printable(without_secrets(what)) + ": could not be got");
    auto path = only->value("mesh_path", "");
    if (!path.empty()) return path;
    const auto below = files_.relative(only->value("path", ""));
    if (!below) throw Error(Status::failed, printable(without_secrets(what)) + ": is outside the files directory");
    return std::string(*below);
  }
  /// The node goes on getting it.
  void bring_later(const std::string& what) const {
    const auto ran = run_tool(get_words({"--detach", "--quiet", what}));
    if (ran.status != 0)
      tell(printable(what) +
           ": the node does not get it meanwhile: " + printable(ran.err.substr(0, ran.err.find('\n'))));
  }

 private:
  PathGate& gate() {
    if (!gate_) gate_.emplace(options_.node.files, -1, options_.node.follow, group_number(options_.node.control_group));
    return *gate_;
  }
  [[nodiscard]] std::vector<std::string> get_words(std::vector<std::string> more) const {
    std::error_code ec;
    const auto beside = fs::read_symlink("/proc/self/exe", ec).parent_path() / "meshget";
    std::vector<std::string> words{fs::exists(beside, ec) ? beside.string() : "meshget", "--files",
                                   options_.node.files.string()};
    const auto add = [&](const char* flag, const std::string& value) {
      if (!value.empty()) words.insert(words.end(), {flag, value});
    };
    add("--config", options_.config);
    add("--control", options_.node.control.string());
    add("--state", options_.node.state.string());
    add("--key", options_.key);
    for (const auto& tracker : options_.node.trackers) add("--tracker", tracker);
    if (options_.node.open) words.emplace_back("--open");
    words.emplace_back("--");
    words.insert(words.end() - 1, more.begin(), more.end() - 1);
    words.push_back(more.back());
    return words;
  }

  /// As the node knows it; unset where no node runs, or it has not hashed that.
  [[nodiscard]] ContentId known_id(const FileEntry& entry) const {
    asio::io_context io(1);
    const auto ask = [](NodeOptions node, std::string path) -> Task<FileEntry> {
      FileEntry out;
      try {
        const ChannelPtr channel = co_await find_node(node);
        if (!channel) co_return out;
        const Handlers handlers;
        spawn(co_await asio::this_coro::executor, channel->run(handlers));
        List question;
        question.pattern = path;
        question.local = true;
        question.most = 1;
        const Listed listed = co_await channel->request(question, std::chrono::seconds(2));
        for (const auto& item : listed.items)
          if (item.entry.path == path) out = item.entry;
        channel->close();
      } catch (const Error&) {
        // It is known by its place on the disk then.
      }
      co_return out;
    };
    const auto said = run_to_end(io, ask(options_.node, entry.path));
    return said && said->size == entry.size && said->mtime == entry.mtime ? said->id : ContentId();
  }

  const CommonOptions& options_;
  FilesDir files_;
  std::optional<PathGate> gate_;
};

/// The mesh as it is mounted on this machine.
std::string mounted_mesh(const std::string& given) {
  if (!given.empty()) {
    std::error_code ec;
    return fs::canonical(given, ec).string();
  }
  std::string out;
  for (const auto& entry : mount_table())
    if (entry.type == "fuse.meshmount" && ::access((entry.at + "/version").c_str(), X_OK) == 0) out = entry.at;
  if (out.empty())
    throw Error(Status::usage,
                "--lazy reads the image in the mounted mesh, and none is mounted for this user: meshmount DIR "
                "mounts it");
  return out;
}

class Command {
 public:
  Command(const Asked& asked, const CommonOptions& options, bool to_change)
      : asked_(asked),
        place_(place_options(asked, options), to_change),
        files_(options),
        volumes_(
            place_, files_.dir(), [this](const std::string& path) { return files_.open(path); }, tell) {}

  Volumes& volumes() { return volumes_; }
  Place& place() { return place_; }

  void print_path(const Volume& volume) const {
    // An overlay is a tree where it is mounted, and nowhere else.
    const auto path = volume.form == Form::overlay ? fs::path(volume.name) : place_.data(volume);
    std::printf("%s\n", path.c_str());
  }

  void make() {
    const auto kind = asked_.kind;
    const bool is_disk = !kind.empty() && std::string_view("disk").starts_with(kind);
    if (!is_disk && (kind.empty() || !std::string_view("fs").starts_with(kind)))
      throw Error(Status::usage, "'" + printable(kind) + "' is neither disk nor fs");
    const auto size = read_size(asked_.size);
    print_path(is_disk ? volumes_.make_disk(asked_.name, size) : volumes_.make_fs(asked_.name, size));
  }

  void clone() {
    const auto& base = asked_.base;
    const bool is_forced = base.starts_with("file:") || base.starts_with("tar:") || base.starts_with("http:") ||
                           base.starts_with("https:") || base.starts_with("path:");
    if (!is_forced)
      if (const auto volume = place_.find(base)) {
        if (asked_.is_lazy)
          throw Error(Status::usage, printable(base) + ": is a volume, which is here; --lazy is for the mesh's");
        return print_path(volumes_.clone(*volume, asked_.name));
      }
    const bool is_archive = base.starts_with("tar:");
    // What cannot be done is said before anything is fetched.
    is_archive ? volumes_.check_clone_of_archive() : asked_.is_lazy ? void() : volumes_.check_clone_of_image();
    place_.check_free(asked_.name);
    const auto what = parse_what(is_archive ? base.substr(4) : base, files_.dir());
    if (what.is_glob)
      throw Error(Status::usage, printable(base) + ": a volume is cloned from one file, and this is a glob");
    if (asked_.is_lazy && is_archive)
      throw Error(Status::usage, "--lazy is for images: an archive is unpacked when it is whole");
    if (asked_.is_lazy && !what.url.empty())
      throw Error(Status::usage, "--lazy is for what the mesh has, and not for URLs");
    std::optional<MeshImage> image;
    const bool is_path = what.url.empty() && !what.id.is_set();
    if (is_path) image = files_.open(what.pattern);
    if (!image && asked_.is_lazy) return print_path(clone_lazily(what.pattern));
    if (!image) {
      // There is no place for a volume, and no file: that is said of both.
      std::string path;
      try {
        path = files_.bring(is_path ? "path:" + what.pattern : is_archive ? base.substr(4) : base);
      } catch (const Error& error) {
        if (error.status() == Status::not_found && !is_forced)
          throw Error(Status::not_found, printable(base) + ": is neither a volume in " +
                                             printable(place_.location().string()) + " nor a file of the mesh");
        throw;
      }
      image = files_.open(path);
      if (!image) throw Error(Status::failed, printable(path) + ": is no file that is here");
    }
    if (!is_archive) return print_path(volumes_.clone(*image, asked_.name));
    const Unpack unpack = [this, &image](int archive, const fs::path& into) {
      const Fd directory(::open(into.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      const auto done = mesh::unpack(archive, directory.get(), asked_.limits, printable(image->path));
      for (const auto& line : done.skipped) tell(line);
      return done.top;
    };
    print_path(volumes_.clone_archive(*image, unpack, asked_.name));
  }

  Volume clone_lazily(const std::string& path) {
    const auto mesh = mounted_mesh(asked_.mesh);
    struct stat s {};
    const auto shown = mesh + "/files/" + path;
    if (::stat(shown.c_str(), &s) != 0)
      throw Error(errno == ENOENT ? Status::not_found : Status::failed,
                  printable(shown) + ": " + std::generic_category().message(errno));
    if (!S_ISREG(s.st_mode)) throw Error(Status::usage, printable(path) + ": is no file");
    FileEntry image;
    image.path = path;
    image.size = s.st_size;
    image.mtime = nanoseconds(s.st_mtim);
    const auto name = version_name(image);
    if (name.size() > 255) throw Error(Status::usage, printable(path) + ": the path is too long for --lazy");
    auto out = volumes_.clone_lazily(image, mesh + "/version/" + name, asked_.name);
    files_.bring_later("path:" + path);
    return out;
  }

  void commit() {
    const auto path = asked_.path.starts_with("file:") ? asked_.path.substr(5) : asked_.path;
    const auto what = parse_what("path:" + path, files_.dir());
    if (const auto fault = path_fault(what.pattern); !fault.empty())
      throw Error(Status::usage, printable(asked_.path) + ": " + std::string(fault));
    if (!asked_.is_force && files_.has(what.pattern))
      throw Error(Status::refused, printable(what.pattern) + ": is there already; --force replaces it");
    std::string shown;
    volumes_.flatten(asked_.name, [&](int disk, std::int64_t size) {
      shown = files_.put(what.pattern, disk, size, asked_.is_force);
    });
    std::printf("%s\n", shown.c_str());
  }

  [[nodiscard]] json described(const Volume& volume) const {
    const auto data = place_.data(volume);
    json out = {{"name", volume.name},          {"kind", volume.has_fs ? "fs" : "disk"},
                {"form", name_of(volume.form)}, {"size", volume.size},
                {"own_bytes", own_bytes(data)}, {"path", data.string()},
                {"from", volume.from},          {"base", volume.base},
                {"made", volume.made},          {"lazy", volume.lazy.has_value()}};
    out["clones"] = json::array();
    for (const auto& other : place_.volumes())
      if (other.from == "volume:" + volume.name && !other.is_dropped) out["clones"].push_back(other.name);
    out["mounted"] = mounts_of(place_, volume);
    const auto attached = attachment_of(place_, volume);
    out["attached"] = attached ? attached->path : "";
    out["attached_by"] = attached ? attached->by : "";
    struct stat s {};
    out["missing"] = ::lstat(data.c_str(), &s) != 0;
    return out;
  }

  void list() const {
    std::vector<std::string> faults;
    auto all = place_.volumes(&faults);
    std::erase_if(all, [](const Volume& volume) { return volume.is_dropped; });
    for (const auto& fault : faults) tell(fault);
    json items = json::array();
    std::string last;
    for (const auto& volume : all) {
      const auto slash = volume.name.find('/');
      if (!asked_.is_recursive && slash != std::string::npos) {
        const auto directory = volume.name.substr(0, slash + 1);
        if (std::exchange(last, directory) == directory) continue;
        if (asked_.as_json)
          items.push_back({{"name", directory}, {"kind", "directory"}});
        else
          std::printf("%9s  %9s  %-9s  %s\n", "", "", "dir", printable(directory).c_str());
        continue;
      }
      if (asked_.as_json) {
        items.push_back(described(volume));
        continue;
      }
      const auto own = human_bytes(own_bytes(place_.data(volume)));
      std::printf("%9s  %9s  %-9s  %s%s\n", is_disk(volume.form) ? human_bytes(volume.size).c_str() : "", own.c_str(),
                  name_of(volume.form), printable(volume.name).c_str(),
                  volume.from.empty() ? "" : ("  of " + printable(volume.from)).c_str());
    }
    if (asked_.as_json)
      std::printf(
          "%s\n",
          json{{"location", place_.location().string()}, {"type", name_of(place_.options().type)}, {"volumes", items}}
              .dump(2, ' ', false, json::error_handler_t::replace)
              .c_str());
    if (!faults.empty()) throw Error(Status::failed, "not all volumes could be listed");
  }

  /// What moctl says of a place.
  void features() const {
    const auto type = place_.options().type;
    std::string out = "features:";
    if (type != PlaceType::loop) out += " clone";
    if (type != PlaceType::btrfs) out += " bdev volsize";
    std::printf("%s\n", out.c_str());
  }

  void info() const {
    const auto volume = place_.get(asked_.name);
    auto out = described(volume);
    json below = json::array();
    for (auto id = volume.base; !id.empty();) {
      const auto base = place_.find_base(id);
      if (!base) break;
      json users = json::array();
      for (const auto& other : place_.volumes())
        if (other.base == id && !other.is_dropped) users.push_back(other.name);
      for (const auto& other : place_.bases())
        if (other.backing == id) users.push_back(other.from);
      below.push_back({{"id", base->id},
                       {"from", base->from},
                       {"form", name_of(base->form)},
                       {"size", base->size},
                       {"own_bytes", own_bytes(place_.base(id))},
                       {"content", base->content},
                       {"on_it", users}});
      id = base->backing;
    }
    out["lies_on"] = below;
    if (asked_.as_json) {
      std::printf("%s\n", out.dump(2, ' ', false, json::error_handler_t::replace).c_str());
      return;
    }
    const auto line = [](const char* what, const std::string& value) {
      if (!value.empty()) std::printf("%-9s %s\n", what, value.c_str());
    };
    const auto joined = [](const json& names) {
      std::string text;
      for (const auto& name : names) text += (text.empty() ? "" : ", ") + printable(name.get<std::string>());
      return text;
    };
    line("name", printable(volume.name));
    line("kind", (volume.has_fs ? "fs, " : "disk, ") + std::string(name_of(volume.form)));
    line("path", printable(out["path"].get<std::string>()) + (out["missing"].get<bool>() ? "  (it is gone)" : ""));
    if (is_disk(volume.form)) line("size", human_bytes(volume.size) + " (" + std::to_string(volume.size) + " bytes)");
    line("own", human_bytes(out["own_bytes"].get<std::int64_t>()) + " that it shares with nothing");
    line("made", human_time(volume.made));
    line("of", printable(volume.from));
    if (volume.lazy)
      line("lazy", "read at " + printable(volume.lazy_at) + " until the image is whole here and this is not in use");
    for (const auto& base : below)
      line("lies on", printable(base["from"].get<std::string>()) + ", " +
                          human_bytes(base["own_bytes"].get<std::int64_t>()) +
                          " of its own; on it: " + joined(base["on_it"]));
    line("clones", joined(out["clones"]));
    line("mounted", joined(out["mounted"]));
    line("attached", printable(out["attached"].get<std::string>()));
  }

 private:
  const Asked& asked_;
  Place place_;
  MeshFiles files_;
  Volumes volumes_;
};

int have(const Asked& asked, const CommonOptions& options) {
  const bool is_there = Place(place_options(asked, options), false).find(asked.name).has_value();
  std::printf("%s exists: %s\n", printable(asked.name).c_str(), is_there ? "yes" : "no");
  // As moctl: its answer is what it prints.
  return is_there || asked.is_moctl ? 0 : static_cast<int>(Status::not_found);
}

int run(const std::string& action, const Asked& asked, const CommonOptions& options) {
  if (action == "have") return have(asked, options);
  const bool to_change = action != "list" && action != "info";
  Command command(asked, options, to_change);
  auto& volumes = command.volumes();
  const bool is_to_end = action == "drop" || action == "umount" || action == "detach";
  if (to_change && !is_to_end) volumes.settle();
  const auto directory = asked.directory.empty() ? std::nullopt : std::optional(asked.directory);
  const bool is_place = asked.name == "-";
  if (action == "new") command.make();
  if (action == "clone") command.clone();
  if (action == "list") command.list();
  if (action == "info" && asked.name.empty()) command.features();
  if (action == "info" && !asked.name.empty()) command.info();
  if (action == "commit") command.commit();
  if (action == "resize") static_cast<void>(volumes.resize(asked.name, read_size(asked.size)));
  if (action == "mount")
    is_place ? volumes.mount_metadata(asked.directory, asked.mount_options)
             : volumes.mount(asked.name, asked.directory, asked.mount_options);
  if (action == "umount") is_place ? volumes.unmount_metadata(directory) : volumes.unmount(asked.name, directory);
  if (action == "attach")
    std::printf("%s%s\n", asked.is_moctl ? "Device: " : "", volumes.attach(asked.name, asked.by).c_str());
  if (action == "detach") volumes.detach(asked.name);
  if (action != "drop") return 0;
  Status status = Status::ok;
  for (const auto& name : asked.names) {
    try {
      volumes.drop(name);
    } catch (const Error& error) {
      tell(error.what());
      status = worst(status, error.status());
    }
  }
  return static_cast<int>(status);
}

}  // namespace
}  // namespace mesh

int main(int argc, char** argv) {
  using namespace mesh;
  return guarded("meshvol", [&] {
    CLI::App app(
        "Gives each VM a disk, and each container a tree: new ones, and copy-on-write clones of the mesh's images.",
        "meshvol");
    CommonOptions options;
    Asked asked;
    add_common(app, options);
    std::string hash = "ondemand";
    const auto shown = app.get_options();
    add_node(app, options, hash);
    add_user(app, options.node.user);
    for (auto* option : app.get_options())
      if (std::ranges::find(shown, option) == shown.end()) option->group("");
    under(app, "Options");
    app.add_option("-c,--place", asked.place,
                   "The place: a YAML file, or NAME for /etc/mesh/volumes/NAME.yaml (default: [volumes] of the "
                   "configuration file)")
        ->type_name("FILE|NAME");
    app.require_subcommand(1);
    app.fallthrough();
    const auto add = [&](const char* name, const char* help) { return app.add_subcommand(name, help); };
    const auto add_name = [&](CLI::App* command, const char* help = "The volume") {
      return command->add_option("NAME", asked.name, help);
    };
    auto* make = add("new", "Makes an empty volume: a disk, or one with a file system");
    make->add_option("KIND", asked.kind, "disk or fs")->required();
    add_name(make, "What it is to be called")->required();
    make->add_option("SIZE", asked.size, "Bytes, or with K, M, G, T")->required();
    auto* clone = add("clone", "Makes a copy-on-write clone, and prints its path");
    clone->add_option("BASE", asked.base, "A volume, else a file of the mesh; file:, tar:, http(s): say which")
        ->required();
    add_name(clone, "What it is to be called")->required();
    clone->add_flag("--lazy", asked.is_lazy,
                    "At once, over the mounted mesh (meshmount), while the image is on its way");
    clone->add_option("--mesh", asked.mesh, "Where the mesh is mounted, for --lazy (default: where it is)")
        ->type_name("DIR");
    add_unpack(*clone, asked.limits);
    auto* drop = add("drop", "Removes volumes, and all data on them");
    drop->add_option("NAME", asked.names, "The volumes")->required();
    auto* mount = add("mount", "Mounts a volume's file system or tree; - is the place itself");
    add_name(mount)->required();
    mount->add_option("DIR", asked.directory, "Where")->required();
    mount->add_option("-o", asked.mount_options, "As for mount(8): ro, ...")->type_name("OPTIONS");
    auto* umount = add("umount", "Unmounts it: everywhere, or from DIR");
    add_name(umount)->required();
    umount->add_option("DIR", asked.directory, "Where");
    auto* list = add("list", "What volumes there are: size, bytes of their own, form, what they are clones of");
    list->add_flag("-r,--recursive", asked.is_recursive, "With everything below");
    list->add_flag("--json", asked.as_json, "JSON on stdout");
    auto* info = add("info", "What hangs on what, and where a volume is in use; without NAME what the place can do");
    add_name(info);
    info->add_flag("--json", asked.as_json, "JSON on stdout");
    auto* resize = add("resize", "Makes a disk larger");
    add_name(resize)->required();
    resize->add_option("SIZE", asked.size, "Bytes, or with K, M, G, T")->required();
    auto* commit = add("commit", "Makes a disk a file of the mesh, which hangs on nothing, and prints its path");
    add_name(commit)->required();
    commit->add_option("MESHPATH", asked.path, "What the file is to be called")->required();
    commit->add_flag("--force", asked.is_force, "Replace the file that is there");
    auto* attach = add("attach", "Shows a disk as a device, or as a raw file, and prints its path");
    add_name(attach)->required();
    attach->add_option("--by", asked.by)->group("");  // meshmount's
    add_name(add("detach", "Ends that"))->required();
    add_name(add("have", "Says whether there is such a volume"))->required();
    app.footer(
        "moctl's form works, too: meshvol CONF ACTION ARGUMENTS, with its abbreviations (create is new).\n\n"
        "Exit status: 0 done, 1 failed, 2 usage, or the place cannot do that, 3 not found, 4 unreachable, 5 refused: "
        "in\n"
        "use, or the name is taken; drop: the highest of several.");
    auto words = spelled_out(app, argc, argv, asked.is_moctl);
    std::vector<char*> pointers;
    for (auto& word : words) pointers.push_back(word.data());
    if (const int status = parse(app, options, static_cast<int>(pointers.size()), pointers.data()); status >= 0)
      return status;
    options.node = checked(std::move(options.node));
    std::signal(SIGPIPE, SIG_IGN);
    return run(app.get_subcommands().front()->get_name(), asked, options);
  });
}
