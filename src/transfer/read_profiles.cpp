#include "transfer/read_profiles.h"

#include <algorithm>
#include <ctime>
#include <utility>

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

static_assert(profile_grain == grain_bytes);
constexpr std::size_t most_openings = 64;
constexpr std::size_t most_asked = 3;
constexpr auto ask_limit = seconds(2);
constexpr auto tell_limit = seconds(10);

}  // namespace

void ReadProfiles::note(const FileEntry& file, std::int64_t offset, std::int64_t length) {
  const auto now = Clock::now();
  auto it = openings_.find(file.id);
  if (it != openings_.end() && now - it->second.read >= options_.apart && is_over(it->second, now)) {
    openings_.erase(it);
    it = openings_.end();
  }
  if (it == openings_.end()) {
    if (openings_.size() >= most_openings) return;
    it = openings_.emplace(file.id, Opening{file, {}, now, now, 0}).first;
  }
  auto& opening = it->second;
  opening.read = now;
  if (!is_over(opening, now)) opening.recorder.note(offset, length);
}

Task<std::string> ReadProfiles::find(ContentId id, std::int64_t size) {
  const auto look = [this, id, size]() -> std::string {
    auto kept = library_.db().find_profile(id, std::time(nullptr));
    return kept && read_profile(kept->told, size) ? std::move(kept->told) : std::string();
  };
  co_return co_await run_on(workers_.brief(), look);
}

Task<std::vector<ProfileRun>> ReadProfiles::learn(FileEntry file, std::vector<NodeRef> holders) {
  struct Answers {
    explicit Answers(asio::io_context& io) : news(io) {}
    std::vector<ProfileRun> best;
    std::size_t out = 0;
    Event news;
  };
  const std::string own = co_await find(file.id, file.size);
  if (auto known = read_profile(own, file.size)) co_return std::move(*known);
  const auto answers = std::make_shared<Answers>(workers_.loop());
  static const auto ask = [](std::shared_ptr<Answers> to, NodeChannels& channels, NodeRef node,
                             FileEntry wanted) -> Task<void> {
    try {
      const auto channel = co_await channels.to(std::move(node));
      const auto used = channels.use(channel);
      ProfileAsk question;
      question.id = wanted.id;
      question.size = wanted.size;
      const ProfileTold told = co_await channel->request(question, ask_limit);
      auto runs = read_profile(told.profile, wanted.size);
      if (runs && is_of_use(*runs) && grains_of(*runs) > grains_of(to->best)) to->best = std::move(*runs);
    } catch (const std::exception&) {
      // Of an older version, or gone: others may know.
    }
    --to->out;
    to->news.notify();
  };
  for (auto& node : holders) {
    if (answers->out >= most_asked) break;
    ++answers->out;
    spawn(workers_.loop(), ask(answers, channels_, std::move(node), file));
  }
  const auto until = Clock::now() + ask_limit;
  while (answers->out > 0 && answers->best.empty() && Clock::now() < until && !workers_.stopping())
    co_await answers->news.wait_for(milliseconds(100));
  if (!answers->best.empty()) {
    const std::string told = tell_profile(answers->best);
    co_await hear(file.id, file.size, told);
  }
  co_return answers->best;
}

Task<void> ReadProfiles::hear(ContentId id, std::int64_t size, std::string told) {
  const auto runs = read_profile(told, size);
  if (!runs || !is_of_use(*runs)) throw Error(Status::failed, "no profile of that content");
  auto putting = put(id, size, std::move(told), false);
  co_await std::move(putting);
}

/// A short look at the beginning does not stand for a boot.
Task<void> ReadProfiles::put(ContentId id, std::int64_t size, std::string told, bool is_own) {
  const auto work = [this, id, size, is_own, told = std::move(told)] {
    const auto now = std::time(nullptr);
    const auto known = library_.db().find_profile(id, now);
    if (known && known->is_own > is_own) return;
    const auto before = known && known->is_own == is_own ? read_profile(known->told, size) : std::nullopt;
    if (before && grains_of(*before) > 2 * grains_of(*read_profile(told, size))) return;
    library_.db().put_profile(id, {told, is_own}, now);
  };
  co_await run_on(workers_.brief(), work);
}

Task<void> ReadProfiles::tell(FileEntry file, std::string told) {
  const auto tracker = co_await links_.first(milliseconds(1000));
  Locate question;
  question.files.push_back(file);
  Located located = co_await tracker->request(question, tell_limit);
  std::size_t count = 0;
  for (auto& node : located.nodes) {
    if (count >= most_asked || workers_.stopping()) break;
    try {
      const auto channel = co_await channels_.to(std::move(node));
      const auto used = channels_.use(channel);
      ProfileAsk news;
      news.id = file.id;
      news.size = file.size;
      news.news = told;
      static_cast<void>(co_await channel->request(news, tell_limit));
      ++count;
    } catch (const std::exception&) {
      // Another one may keep it.
    }
  }
}

Task<void> ReadProfiles::keep_and_tell(ReadProfiles* self, FileEntry file, std::string told) {
  try {
    co_await self->put(file.id, file.size, told, true);
    if (self->options_.tells && !self->workers_.stopping()) co_await self->tell(std::move(file), std::move(told));
  } catch (const std::exception&) {
    // It is of use here, or not even that.
  }
}

void ReadProfiles::tend() {
  const auto now = Clock::now();
  for (auto& [id, opening] : openings_) {
    const auto count = opening.recorder.runs().size();
    const bool is_due = is_over(opening, now) || now - opening.read >= options_.pause;
    if (!is_due || count == opening.kept || !opening.recorder.is_of_use()) continue;
    opening.kept = count;
    spawn(workers_.loop(), keep_and_tell(this, opening.file, tell_profile(opening.recorder.runs())));
  }
  std::erase_if(openings_, [&](const auto& pair) { return now - pair.second.read >= options_.apart; });
}

Task<void> ReadProfiles::close() {
  const auto openings = std::exchange(openings_, {});
  for (const auto& [id, opening] : openings)
    if (opening.recorder.runs().size() != opening.kept && opening.recorder.is_of_use())
      co_await put(id, opening.file.size, tell_profile(opening.recorder.runs()), true);
}

}  // namespace mesh
