#include "store/listing.h"

#include <expat.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/format.h"
#include "core/http_request.h"
#include "core/mesh_path.h"

namespace mesh {
namespace {

constexpr std::size_t most_text_bytes = 16 * 1024;  // of one element
constexpr int most_depth = 16;

Error nonsense(const std::string& why) { return {Status::failed, "the store's answer makes no sense: " + why}; }

/// Told of the end of each element: where it is ("ListBucketResult/Contents/Key"), and its text. Without namespaces.
class Xml {
 public:
  using OnEnd = std::function<void(std::string_view path, const std::string& text)>;
  static void read(std::string_view text, const OnEnd& on_end) {
    Xml self(on_end);
    const std::unique_ptr<std::remove_pointer_t<XML_Parser>, decltype(&XML_ParserFree)> parser(
        XML_ParserCreate("UTF-8"), &XML_ParserFree);
    self.parser_ = parser.get();
    XML_SetUserData(parser.get(), &self);
    XML_SetElementHandler(parser.get(), &Xml::begin, &Xml::end);
    XML_SetCharacterDataHandler(parser.get(), &Xml::characters);
    // Nobody needs one, and entities are a way to make much of little.
    XML_SetStartDoctypeDeclHandler(parser.get(), [](void* data, const XML_Char*, const XML_Char*, const XML_Char*,
                                                    int) { static_cast<Xml*>(data)->stop("it has a DOCTYPE"); });
    const bool good = XML_Parse(parser.get(), text.data(), static_cast<int>(text.size()), 1) == XML_STATUS_OK;
    if (!self.trouble_.empty()) throw nonsense(self.trouble_);
    if (self.thrown_) std::rethrow_exception(self.thrown_);
    if (!good) throw nonsense(XML_ErrorString(XML_GetErrorCode(parser.get())));
  }

 private:
  explicit Xml(const OnEnd& on_end) : on_end_(on_end) {}
  void stop(const char* why) {
    trouble_ = why;
    XML_StopParser(parser_, XML_FALSE);
  }
  static void begin(void* data, const char* name, const char**) {
    auto& self = *static_cast<Xml*>(data);
    const std::string_view all(name);
    const auto colon = all.rfind(':');
    const auto plain = colon == std::string_view::npos ? all : all.substr(colon + 1);
    if (self.depth_++ >= most_depth || plain.size() > 200) return self.stop("its elements are too deep, or too long");
    self.path_ += (self.path_.empty() ? "" : "/") + std::string(plain);
    self.text_.clear();
  }
  static void characters(void* data, const char* text, int size) {
    auto& self = *static_cast<Xml*>(data);
    if (self.text_.size() + static_cast<std::size_t>(size) > most_text_bytes)
      return self.stop("an element is too long");
    self.text_.append(text, static_cast<std::size_t>(size));
  }
  static void end(void* data, const char*) {
    auto& self = *static_cast<Xml*>(data);
    try {
      self.on_end_(self.path_, self.text_);
    } catch (...) {
      self.thrown_ = std::current_exception();
      XML_StopParser(self.parser_, XML_FALSE);
    }
    const auto slash = self.path_.rfind('/');
    self.path_.resize(slash == std::string::npos ? 0 : slash);
    self.text_.clear();
    --self.depth_;
  }

  const OnEnd& on_end_;
  XML_Parser parser_ = nullptr;
  std::string path_;
  std::string text_;
  int depth_ = 0;
  std::string trouble_;
  std::exception_ptr thrown_;
};

std::int64_t number_in(const std::string& text) {
  std::int64_t out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc() || end != text.data() + text.size() || out < 0)
    throw nonsense("'" + printable(text) + "' is no number");
  return out;
}

std::string without_quotes(std::string text) {
  if (text.size() >= 2 && text.front() == '"' && text.back() == '"') text = text.substr(1, text.size() - 2);
  return text;
}

/// encoding-type=url: as in a form, a space may be a '+'.
std::string decoded(std::string text) {
  std::ranges::replace(text, '+', ' ');
  // With a zero byte in it, say: then nobody can name it.
  return url_decoded(text).value_or(std::string(1, '\0') + text);
}

}  // namespace

std::int64_t read_store_time(std::string_view text) {
  std::tm tm{};
  const std::string whole(text.substr(0, 40));
  int used = 0;
  if (std::sscanf(whole.c_str(), "%4d-%2d-%2dT%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
                  &tm.tm_min, &tm.tm_sec, &used) != 6)
    return 0;
  if (tm.tm_year < 1970 || tm.tm_year > 2200 || tm.tm_mon < 1 || tm.tm_mon > 12) return 0;
  tm.tm_year -= 1900;
  tm.tm_mon -= 1;
  const auto seconds = ::timegm(&tm);
  if (seconds < 0) return 0;
  std::int64_t fraction = 0;
  if (whole[static_cast<std::size_t>(used)] == '.') {
    std::int64_t unit = 100'000'000;
    for (auto at = static_cast<std::size_t>(used) + 1;
         at < whole.size() && whole[at] >= '0' && whole[at] <= '9' && unit > 0; ++at) {
      fraction += (whole[at] - '0') * unit;
      unit /= 10;
    }
  }
  return std::int64_t{seconds} * 1'000'000'000 + fraction;
}

ObjectPage read_s3_listing(std::string_view xml) {
  ObjectPage out;
  StoredObject one;
  bool is_encoded = false;
  bool is_truncated = false;
  bool is_listing = false;
  Xml::read(xml, [&](std::string_view path, const std::string& text) {
    constexpr std::string_view top = "ListBucketResult";
    if (!path.starts_with(top)) return;
    is_listing = true;
    path.remove_prefix(top.size());
    if (path == "/EncodingType") is_encoded = text == "url";
    if (path == "/IsTruncated") is_truncated = text == "true";
    if (path == "/NextContinuationToken") out.next = text;
    if (path == "/Contents/Key") one.key = text;
    if (path == "/Contents/Size") one.size = number_in(text);
    if (path == "/Contents/ETag") one.etag = without_quotes(text);
    if (path == "/Contents/LastModified") one.mtime = read_store_time(text);
    if (path == "/Contents") out.objects.push_back(std::exchange(one, {}));
    if (path == "/CommonPrefixes/Prefix") out.prefixes.push_back(text);
  });
  if (!is_listing) throw nonsense("it is no listing");
  // It may say so behind what it is about.
  if (is_encoded) {
    for (auto& object : out.objects) object.key = decoded(object.key);
    for (auto& prefix : out.prefixes) prefix = decoded(prefix);
  }
  if (!is_truncated) out.next.clear();
  if (is_truncated && out.next.empty()) throw nonsense("a page is not the last, and does not say what comes next");
  return out;
}

std::string read_s3_element(std::string_view xml, std::string_view name) {
  std::string out;
  bool found = false;
  Xml::read(xml, [&](std::string_view path, const std::string& text) {
    if (found || (path != name && !path.ends_with("/" + std::string(name)))) return;
    found = true;
    out = text;
  });
  return out;
}

S3Parts read_s3_parts(std::string_view xml) {
  S3Parts out;
  S3Part one;
  bool is_truncated = false;
  Xml::read(xml, [&](std::string_view path, const std::string& text) {
    constexpr std::string_view top = "ListPartsResult";
    if (!path.starts_with(top)) return;
    path.remove_prefix(top.size());
    if (path == "/IsTruncated") is_truncated = text == "true";
    if (path == "/NextPartNumberMarker") out.next = text;
    if (path == "/Part/PartNumber") one.number = static_cast<int>(std::min<std::int64_t>(number_in(text), 1'000'000));
    if (path == "/Part/Size") one.size = number_in(text);
    if (path == "/Part/ETag") one.etag = without_quotes(text);
    if (path == "/Part") out.parts.push_back(std::exchange(one, {}));
  });
  if (!is_truncated) out.next.clear();
  return out;
}

ObjectPage read_swift_listing(std::string_view text, std::size_t limit) {
  ObjectPage out;
  const auto all = nlohmann::json::parse(text, nullptr, false);
  if (!all.is_array()) throw nonsense("it is no listing");
  const auto text_in = [](const nlohmann::json& from, const char* name) {
    const auto at = from.find(name);
    return at != from.end() && at->is_string() ? at->get<std::string>() : std::string();
  };
  std::string last;
  for (const auto& item : all) {
    if (!item.is_object()) throw nonsense("it is no listing");
    if (auto prefix = text_in(item, "subdir"); !prefix.empty()) {
      last = prefix;
      out.prefixes.push_back(std::move(prefix));
      continue;
    }
    StoredObject one;
    one.key = text_in(item, "name");
    if (one.key.empty()) throw nonsense("an object has no name");
    const auto size = item.find("bytes");
    if (size != item.end() && size->is_number_integer())
      one.size = std::max<std::int64_t>(0, size->get<std::int64_t>());
    one.etag = text_in(item, "hash");
    one.mtime = read_store_time(text_in(item, "last_modified"));
    last = one.key;
    out.objects.push_back(std::move(one));
  }
  if (all.size() >= limit) out.next = last;
  return out;
}

}  // namespace mesh
