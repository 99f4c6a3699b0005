#include "volume/records.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.h"
#include "core/format.h"
#include "core/merkle.h"

namespace mesh {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::json;

constexpr std::int64_t most_record_bytes = 64 * 1024;

constexpr std::array forms{std::pair{"raw", Form::raw}, std::pair{"qcow2", Form::qcow2},
                           std::pair{"subvolume", Form::subvolume}, std::pair{"overlay", Form::overlay},
                           std::pair{"directory", Form::directory}};

Form read_form(const std::string& text) {
  for (const auto& [name, form] : forms)
    if (text == name) return form;
  throw std::runtime_error("form '" + text + "'");
}

Error failed(const fs::path& file, const std::string& why) {
  return {Status::failed, printable(file.string()) + ": " + why};
}
Error failed(const fs::path& file) { return failed(file, std::generic_category().message(errno)); }

json to_json(const FileStamp& s) {
  return {{"device", s.device}, {"inode", s.inode}, {"size", s.size}, {"mtime", s.mtime}, {"ctime", s.ctime}};
}
FileStamp stamp_from(const json& in) {
  return {in.at("device"), in.at("inode"), in.at("size"), in.at("mtime"), in.at("ctime")};
}

void write(const fs::path& file, const json& record) {
  const auto beside = file.string() + ".new";
  const Fd fd(::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!fd) throw failed(file);
  const auto text = record.dump(1) + "\n";
  for (std::size_t done = 0; done < text.size();) {
    const auto n = ::write(fd.get(), text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) throw failed(file);
    done += static_cast<std::size_t>(n);
  }
  if (::fsync(fd.get()) != 0 || ::rename(beside.c_str(), file.c_str()) != 0) throw failed(file);
  sync_directory(file.parent_path());
}

template <class Read>
auto read(const fs::path& file, const Read& take) -> std::optional<decltype(take(std::declval<json>()))> {
  const Fd fd(::open(file.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd && (errno == ENOENT || errno == ENOTDIR)) return std::nullopt;
  if (!fd) throw failed(file);
  std::string text(most_record_bytes, '\0');
  std::size_t size = 0;
  for (ssize_t n = 0; size < text.size() && (n = ::read(fd.get(), text.data() + size, text.size() - size)) != 0;) {
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw failed(file);
    size += static_cast<std::size_t>(n);
  }
  text.resize(size);
  try {
    return take(json::parse(text));
  } catch (const std::exception&) {
    throw failed(file, "is no record of a volume; what it stands for is not touched");
  }
}

}  // namespace

const char* name_of(Form form) { return std::ranges::find(forms, form, &std::pair<const char*, Form>::second)->first; }

std::string record_name(std::string_view volume) { return sha256(volume).hex().substr(0, 40); }

void write_record(const fs::path& file, const Volume& v) {
  json out = {{"name", v.name},          {"form", name_of(v.form)}, {"fs", v.has_fs},           {"size", v.size},
              {"made", v.made},          {"from", v.from},          {"base", v.base},           {"under", v.under},
              {"dropped", v.is_dropped}, {"user", v.user},          {"fresh", to_json(v.fresh)}};
  if (v.lazy)
    out["lazy"] = {{"path", v.lazy->path},
                   {"size", v.lazy->size},
                   {"mtime", v.lazy->mtime},
                   {"at", v.lazy_at},
                   {"id", v.lazy->id.is_set() ? v.lazy->id.hex() : std::string()}};
  write(file, out);
}

std::optional<Volume> read_volume(const fs::path& file) {
  return read(file, [](const json& in) {
    Volume v;
    v.name = in.at("name");
    v.form = read_form(in.at("form"));
    v.has_fs = in.at("fs");
    v.size = in.at("size");
    v.made = in.at("made");
    v.from = in.at("from");
    v.base = in.at("base");
    v.under = in.at("under");
    v.is_dropped = in.at("dropped");
    v.user = in.at("user");
    v.fresh = stamp_from(in.at("fresh"));
    if (in.contains("lazy")) {
      const auto& lazy = in.at("lazy");
      v.lazy.emplace();
      v.lazy->path = lazy.at("path");
      v.lazy->size = lazy.at("size");
      v.lazy->mtime = lazy.at("mtime");
      if (const std::string id = lazy.at("id"); !id.empty()) v.lazy->id = ContentId::from(from_hex(id)).value();
      v.lazy_at = lazy.at("at");
    }
    return v;
  });
}

void write_record(const fs::path& file, const Base& b) {
  write(file, {{"id", b.id},
               {"form", name_of(b.form)},
               {"size", b.size},
               {"made", b.made},
               {"from", b.from},
               {"backing", b.backing},
               {"content", b.content},
               {"of", to_json(b.of)}});
}

std::optional<Base> read_base(const fs::path& file) {
  return read(file, [](const json& in) {
    Base b;
    b.id = in.at("id");
    b.form = read_form(in.at("form"));
    b.size = in.at("size");
    b.made = in.at("made");
    b.from = in.at("from");
    b.backing = in.at("backing");
    b.content = in.at("content");
    b.of = stamp_from(in.at("of"));
    return b;
  });
}

void write_record(const fs::path& file, const Attachment& a) {
  write(file, {{"volume", a.volume}, {"how", a.how}, {"path", a.path}, {"process", a.process}, {"by", a.by}});
}

std::optional<Attachment> read_attachment(const fs::path& file) {
  return read(file, [](const json& in) {
    Attachment a;
    a.volume = in.at("volume");
    a.how = in.at("how");
    a.path = in.at("path");
    a.process = in.at("process");
    a.by = in.value("by", "");
    return a;
  });
}

void remove_file(const fs::path& file) {
  if (::unlink(file.c_str()) != 0 && errno != ENOENT) throw failed(file);
  sync_directory(file.parent_path());
}

void sync_directory(const fs::path& directory) {
  const Fd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0) throw failed(directory);
}

void sync_tree(const fs::path& directory) {
  const Fd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd || ::syncfs(fd.get()) != 0) throw failed(directory);
}

void sync_file(const fs::path& file) {
  const Fd fd(::open(file.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0) throw failed(file);
}

}  // namespace mesh
