#include "page/page.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <utility>

#include "core/format.h"
#include "core/http_request.h"
#include "core/mesh_path.h"
#include "page/assets.h"
#include "page/orders.h"
#include "page/page_view.h"
#include "version.h"
#include "wire/flow.h"
#include "wire/http_answer.h"
#include "wire/to_json.h"

namespace mesh {

using nlohmann::json;
using std::chrono::milliseconds;
using namespace http_answer;

namespace {

constexpr auto look_every = milliseconds(1'000);
/// Of many nodes less often: each costs this process, and the one that it asks, some work.
constexpr auto look_every_for_each_node = milliseconds(5);
constexpr auto hour_every = std::chrono::seconds(10);
/// A line without meaning: whoever is gone is noticed, and what is in between does not give the connection up.
constexpr auto sign_of_life_every = std::chrono::seconds(10);
constexpr auto ask_limit = std::chrono::seconds(15);
constexpr int list_page = 200;

std::string query_of(const HttpTarget& target, std::string_view key) {
  const auto it = target.query.find(key);
  return it == target.query.end() ? std::string() : it->second;
}

Text json_text(std::string body) {
  Text out;
  out.head.fields = {{"Content-Type", "application/json"}, {"Cache-Control", "no-store"}};
  add_guards(out.head, true);
  out.body = std::move(body);
  return out;
}

std::string random_text() {
  std::random_device random;
  return to_hex(std::to_string(random()) + std::to_string(random()));
}

}  // namespace

struct Page::Shared : std::enable_shared_from_this<Page::Shared> {
  using Clock = std::chrono::steady_clock;

  Shared(asio::io_context& loop, const Handlers& asked, Options given)
      : io(loop), handlers(&asked), options(std::move(given)), news(loop) {
    facts.name = options.name;
    facts.program = options.program;
    facts.version = MESH_VERSION;
    facts.started = random_text();
    facts.allowed = options.allowed;
  }

  [[nodiscard]] milliseconds interval() const {
    const auto many = static_cast<int>(std::min<std::size_t>(glances.nodes.size(), 2'000));
    return std::max(look_every, look_every_for_each_node * many);
  }
  /// Looks while somebody does.
  static Task<void> look(std::shared_ptr<Shared> self) {
    while (self->viewers > 0 && !self->is_over) {
      co_await look_once(self);
      co_await sleep_for(self->interval());
    }
    self->is_looking = false;
  }
  /// One at a time: who comes meanwhile has what that finds.
  static Task<void> look_once(std::shared_ptr<Shared> self) {
    if (std::exchange(self->is_asking, true)) {
      co_await self->news.wait_for(ask_limit);
      co_return;
    }
    const auto now = Clock::now();
    GlanceAsk question;
    question.mesh = true;
    question.hour = !self->hour_at || now - *self->hour_at > hour_every;
    try {
      Glances found = co_await self->handlers->answer(question);
      self->glances = std::move(found);
      if (question.hour) self->hour_at = now;
    } catch (const std::exception& error) {
      // What was known of them is of before.
      for (auto& node : self->glances.nodes) {
        node.error = "is not heard of from here";
        node.rate = node.up_rate = 0;
        node.moving.clear();
      }
      self->glances.view = error.what();
    }
    self->looked_at = Clock::now();
    self->is_asking = false;
    self->latest = std::make_shared<const std::string>("data: " + page_view::live(self->glances, self->facts) + "\n\n");
    ++self->number;
    self->news.notify();
  }
  [[nodiscard]] bool is_stale() const { return !looked_at || Clock::now() - *looked_at > 2 * interval(); }
  /// What a list is made of.
  static Task<void> be_current(std::shared_ptr<Shared> self) {
    if (self->is_over) throw Error(Status::unreachable, "it ends");
    if (self->is_stale()) co_await look_once(self);
  }

  static Task<std::optional<Text>> answer_live(std::shared_ptr<Shared> self, HttpConnectionPtr to) {
    to->goes_on = false;
    Head head;
    head.length = -1;
    head.fields = {{"Content-Type", "text/event-stream"}, {"Cache-Control", "no-store"}, {"X-Accel-Buffering", "no"}};
    add_guards(head, true);
    const auto begin = rendered(head, false);
    to->has_begun = true;
    co_await HttpListener::send_bytes(to, begin);
    if (to->is_head) co_return std::nullopt;
    const std::shared_ptr<void> counted(nullptr, [self](void*) { --self->viewers; });
    ++self->viewers;
    // What the last one who looked was told may be of long ago.
    if (self->is_stale()) self->latest.reset();
    if (!std::exchange(self->is_looking, true)) spawn(self->io, look(self));
    for (std::uint64_t seen = 0; !self->is_over;) {
      if (seen == self->number || !self->latest) co_await self->news.wait_for(sign_of_life_every);
      if (self->is_over) break;
      const bool has_news = self->latest && seen != self->number;
      seen = self->number;
      const auto text = has_news ? self->latest : std::make_shared<const std::string>(":\n\n");
      co_await HttpListener::send_bytes(to, *text);
    }
    co_return std::nullopt;
  }

  static Task<std::optional<Text>> answer_nodes(std::shared_ptr<Shared> self, HttpTarget target) {
    co_await be_current(self);
    co_return json_text(page_view::nodes(self->glances, query_of(target, "find"), query_of(target, "after")));
  }
  static Task<std::optional<Text>> answer_swarm(std::shared_ptr<Shared> self, HttpTarget target) {
    co_await be_current(self);
    co_return json_text(page_view::swarm(self->glances, query_of(target, "path"), query_of(target, "after")));
  }
  static Task<std::optional<Text>> answer_files(std::shared_ptr<Shared> self, HttpTarget target) {
    if (self->is_over) throw Error(Status::unreachable, "it ends");
    List question;
    const auto find = query_of(target, "find");
    question.pattern = find.empty() ? query_of(target, "path") : page_view::glob_for(find);
    question.glob = !find.empty();
    question.after = query_of(target, "after");
    question.most = list_page;
    question.local_if_alone = true;
    Listed listed;
    try {
      listed = co_await self->handlers->answer(question);
    } catch (const Error& error) {
      if (error.status() != Status::not_found || find.empty()) throw;
    }
    co_return json_text(page_view::files(listed));
  }
  static Task<std::optional<Text>> answer_file(std::shared_ptr<Shared> self, HttpTarget target) {
    if (self->is_over) throw Error(Status::unreachable, "it ends");
    Info question;
    question.path = query_of(target, "path");
    const Versions versions = co_await self->handlers->answer(question);
    co_return json_text(page_view::file(versions, question.path));
  }

  static Task<std::string> get(std::shared_ptr<Shared> self, PageOrder order) {
    Get request;
    request.whats = std::move(order.whats);
    request.force = order.force;
    request.detach = true;
    const GetReply done = co_await self->handlers->answer(request);
    co_return to_text({{"ok", done.errors.empty()}, {"errors", printable_all(done.errors)}}, -1);
  }
  static Task<std::string> cancel(std::shared_ptr<Shared> self, PageOrder order) {
    Cancel request;
    request.whats = std::move(order.whats);
    request.discard = order.discard;
    if (!order.numbers.empty()) {
      const StatusAsk own;
      const StatusReply known = co_await self->handlers->answer(own);
      for (const auto& node : known.nodes)
        for (const auto& get : node.gets)
          if (std::ranges::find(order.numbers, get.number) != order.numbers.end())
            request.whats.insert(request.whats.end(), get.whats.begin(), get.whats.end());
      if (request.whats.empty()) throw Error(Status::not_found, "that get is under way no more");
    }
    const Cancelled done = co_await self->handlers->answer(request);
    const auto count = done.stopped.size() + done.discarded.size();
    json errors = json::array();
    if (count == 0) errors.push_back("nothing of that was under way");
    co_return to_text({{"ok", count > 0}, {"count", count}, {"errors", std::move(errors)}}, -1);
  }
  static Task<std::string> remove(std::shared_ptr<Shared> self, PageOrder order) {
    Delete request;
    request.whats = std::move(order.whats);
    request.force = order.force;
    const Deleted done = co_await self->handlers->answer(request);
    auto errors = printable_all(done.errors);
    for (const auto& path : done.missing) errors.push_back(printable(path) + ": is not on this node");
    co_return to_text({{"ok", errors.empty()}, {"count", done.count}, {"bytes", done.bytes}, {"errors", errors}}, -1);
  }
  static Task<std::string> drop_cache(std::shared_ptr<Shared> self, PageOrder /*order*/) {
    CacheAsk request;
    request.drop = true;
    const CacheUsage left = co_await self->handlers->answer(request);
    co_return to_text({{"ok", true}, {"bytes", left.bytes}, {"errors", json::array()}}, -1);
  }
  static json printable_all(const std::vector<std::string>& all) {
    json out = json::array();
    for (std::size_t i = 0; i < std::min<std::size_t>(all.size(), 10); ++i) out.push_back(printable(all[i]));
    return out;
  }

  using Do = Task<std::string> (*)(std::shared_ptr<Shared>, PageOrder);
  static Task<std::string> take(std::shared_ptr<Shared> self, std::string kind, Do work, std::string body) {
    if (!self->options.allowed.contains(kind))
      throw Error(Status::refused,
                  "the page may not do that here (http-allow = \"" + kind + "\" in mesh.conf lets it)");
    if (self->is_over) throw Error(Status::unreachable, "it ends");
    PageOrder order = read_page_order(body);
    if (kind != "cache" && order.whats.empty() && order.numbers.empty())
      throw Error(Status::usage, "the request names nothing");
    std::string done = co_await work(self, std::move(order));
    co_return done;
  }

  asio::io_context& io;
  const Handlers* handlers;
  Options options;
  page_view::Facts facts;
  Event news;
  Glances glances;
  std::shared_ptr<const std::string> latest;  ///< as it goes out
  std::uint64_t number = 0;
  std::optional<Clock::time_point> looked_at;
  std::optional<Clock::time_point> hour_at;
  int viewers = 0;
  bool is_looking = false;  ///< again and again
  bool is_asking = false;   ///< just now
  bool is_over = false;
};

Page::Page(asio::io_context& io, HttpListener& listener, const Handlers& handlers, Options options)
    : shared_(std::make_shared<Shared>(io, handlers, std::move(options))) {
  listener.add_asset("/", "text/html; charset=utf-8", page_assets::html);
  listener.add_asset("/page.svg", "image/svg+xml", page_assets::icon);
  listener.add_asset("/page.css", "text/css; charset=utf-8", page_assets::css);
  listener.add_asset("/page.js", "text/javascript; charset=utf-8", page_assets::script);
  const auto shared = shared_;
  listener.add_answer("/page/live", [shared](HttpConnectionPtr to, const HttpRequest&, const HttpTarget&) {
    return Shared::answer_live(shared, std::move(to));
  });
  using Asked = Task<std::optional<Text>> (*)(std::shared_ptr<Shared>, HttpTarget);
  const std::pair<const char*, Asked> asked[] = {{"/page/nodes", &Shared::answer_nodes},
                                                 {"/page/swarm", &Shared::answer_swarm},
                                                 {"/page/files", &Shared::answer_files},
                                                 {"/page/file", &Shared::answer_file}};
  for (const auto& [path, answer] : asked)
    listener.add_answer(path, [shared, answer = answer](HttpConnectionPtr, const HttpRequest&,
                                                        const HttpTarget& target) { return answer(shared, target); });
  if (shared->options.program != "meshseed") return;  // there is nothing to be done
  const std::tuple<const char*, const char*, Shared::Do> orders[] = {
      {"/page/get", "get", &Shared::get},
      {"/page/cancel", "cancel", &Shared::cancel},
      {"/page/delete", "delete", &Shared::remove},
      {"/page/drop-cache", "cache", &Shared::drop_cache}};
  for (const auto& [path, kind, work] : orders)
    listener.add_order(path, [shared, kind = kind, work = work](std::string body) {
      return Shared::take(shared, kind, work, std::move(body));
    });
}

Page::~Page() {
  shared_->is_over = true;
  shared_->news.notify();
}

}  // namespace mesh
