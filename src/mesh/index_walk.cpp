#include "mesh/index_walk.h"

#include <algorithm>
#include <tuple>

#include "core/format.h"
#include "core/glob.h"
#include "core/mesh_path.h"
#include "wire/flow.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

constexpr auto ask_limit = seconds(10);
constexpr std::int64_t told_after = 2'500;  // milliseconds; before, nodes may still be telling it
constexpr auto young_limit = milliseconds(3'000);
constexpr std::size_t most_asked_at_once = 16;
constexpr std::size_t most_keepers = 8;  // that one question goes to
constexpr std::size_t few_keepers = 5;   // that are known by the ring
constexpr std::size_t questions_at_once = 200;
constexpr std::size_t most_versions = 2'000'000;
/// More than that in one answer is no answer. (A page ends behind the path that fills it.)
constexpr std::size_t most_in_page = 4'000;
constexpr std::size_t most_nodes_in_page = 40'000;
constexpr std::size_t most_keepers_named = 64;
constexpr auto cover_limit = seconds(60);
constexpr std::int64_t young_keeper = 30;  // seconds
constexpr std::size_t most_likely = 64;

std::string join(const std::string& directory, std::string_view name) {
  return directory.empty() ? std::string(name) : directory + "/" + std::string(name);
}

std::vector<std::string> parts_of(std::string_view path) {
  std::vector<std::string> out;
  while (!path.empty()) {
    const auto slash = std::min(path.find('/'), path.size());
    out.emplace_back(path.substr(0, slash));
    path.remove_prefix(std::min(slash + 1, path.size()));
  }
  return out;
}

}  // namespace

struct IndexWalk::Question {
  DirectoryQuestion said;
  std::vector<Member> keepers;  ///< whom to ask, in this order
  std::size_t next = 0;
  std::set<std::string> named;  ///< of `keepers`
  std::size_t answers = 0;
  bool is_known = false;                ///< somebody knows of the directory
  bool is_settled = false;              ///< and has been a keeper for long
  bool is_cut = false;                  ///< and had no room for all
  std::set<std::string> directories{};  ///< paths that it led to
  std::size_t found = 0;
};

struct IndexWalk::Round {
  Covered out;
  bool certain = false;
  std::string from;
  std::map<std::string, std::uint32_t> places;            ///< of instances in out.nodes
  std::map<std::string, std::vector<std::size_t>> known;  ///< by path, of out.versions
  std::set<std::string> likely;                           ///< instances
  std::int64_t youngest = INT64_MAX;                      ///< of the keepers that have answered
  std::size_t asked = 0;
  std::size_t unanswered = 0;
  std::string trouble;
  bool is_too_much = false;
  std::size_t cut = 0;  ///< directories of which a keeper left something out
  std::function<NodeRef(const NodeRef&)> better;
  Clock::time_point deadline{};

  [[nodiscard]] bool has_file(const std::string& path) const {
    const auto at = known.find(path);
    return at != known.end() && std::ranges::any_of(at->second, [&](std::size_t version) {
             return out.versions[version].entry.kind != Kind::directory;
           });
  }

  std::uint32_t place(const IndexedNode& node) {
    const auto [at, fresh] = places.try_emplace(node.node.instance, static_cast<std::uint32_t>(out.nodes.size()));
    if (fresh) out.nodes.push_back({better(node.node), node.head});
    if (node.head) out.nodes[at->second].head = true;
    return at->second;
  }
};

/// Puts what one keeper says beside what others have said.
void IndexWalk::take(const Indexed& heard, const Questions& asked, Round& round) {
  std::size_t versions = 0;
  for (const auto& directory : heard.directories) versions += directory.versions.size();
  if (versions > most_in_page || heard.nodes.size() > most_nodes_in_page || heard.keepers.size() > most_keepers_named)
    throw Error(Status::failed, "a keeper answers at too great length");
  for (std::size_t i = 0; i < asked.size() && i < heard.directories.size(); ++i) {
    const auto& directory = heard.directories[i];
    auto& question = *asked[i];
    question.is_known = question.is_known || directory.is_known;
    question.is_cut = question.is_cut || directory.is_cut;
    for (const auto& version : directory.versions) {
      const auto& path = version.entry.path;
      if (!entry_fault(version.entry).empty() || parent_path(path) != question.said.directory) continue;
      ++question.found;
      if (version.entry.kind == Kind::directory) question.directories.insert(path);
      std::vector<std::uint32_t> nodes;
      for (const auto place : version.nodes)
        if (place < heard.nodes.size() && nodes.size() < most_index_holders)
          nodes.push_back(round.place(heard.nodes[place]));
      auto& known = round.known[path];
      const auto same =
          std::ranges::find_if(known, [&](std::size_t at) { return round.out.versions[at].entry == version.entry; });
      if (same == known.end()) {
        if (round.out.versions.size() >= most_versions) {
          round.is_too_much = true;
          return;
        }
        known.push_back(round.out.versions.size());
        round.out.versions.push_back({version.entry, version.count, std::move(nodes)});
        continue;
      }
      auto& one = round.out.versions[*same];
      one.count = std::max(one.count, version.count);
      for (const auto node : nodes)
        if (std::ranges::find(one.nodes, node) == one.nodes.end()) one.nodes.push_back(node);
      one.count = std::max(one.count, static_cast<std::int64_t>(one.nodes.size()));
    }
    for (const auto place : directory.tellers)
      if (place < heard.nodes.size() && round.likely.size() < most_likely) {
        round.place(heard.nodes[place]);
        round.likely.insert(heard.nodes[place].node.instance);
      }
  }
}

/// One keeper's answers to some questions, page by page.
Task<void> IndexWalk::ask_one(Member keeper, Questions questions, std::shared_ptr<Round> round) {
  std::vector<std::string> after(questions.size());
  std::size_t done = 0;
  try {
    const KeeperLinks::Link link = co_await links_.to(keeper);
    while (done < questions.size()) {
      IndexAsk ask;
      ask.from = round->from;
      Questions some;
      for (std::size_t i = done; i < questions.size() && some.size() < questions_at_once; ++i) {
        some.push_back(questions[i]);
        ask.questions.push_back(questions[i]->said);
        ask.questions.back().after = after[i];
      }
      if (Clock::now() > round->deadline) throw Error(Status::unreachable, "it takes too long");
      const Indexed heard = co_await link.channel->request(ask, ask_limit);
      if (heard.directories.empty()) break;
      if (keeper.keeps < young_keeper) round->youngest = std::min(round->youngest, heard.age);
      take(heard, some, *round);
      for (std::size_t i = 0; i < some.size() && i < heard.directories.size(); ++i, ++done) {
        const auto& directory = heard.directories[i];
        if (!directory.next.empty()) {
          if (directory.next <= after[done] || directory.versions.empty()) co_return;  // it leads nowhere
          after[done] = directory.next;
          break;
        }
        auto& question = *some[i];
        ++question.answers;
        if (directory.is_known && !directory.is_cut && keeper.keeps >= proven_after) question.is_settled = true;
        if (directory.is_known) continue;
        for (const auto& other : heard.keepers) {
          if (question.keepers.size() >= most_keepers) break;
          const auto known = facts_.find(other.instance);
          if ((!known && !facts_.may_ask(other)) || !question.named.insert(other.instance).second) continue;
          question.keepers.push_back(known ? *known : other);
        }
      }
    }
  } catch (const Error& error) {
    round->trouble = error.what();
  }
}

Task<void> IndexWalk::ask(Questions questions, std::shared_ptr<Round> round) {
  Slice slice;
  for (const auto& question : questions) {
    if (slice.is_over()) co_await slice.next();
    for (auto& keeper : facts_.keepers(ring_key(question->said.directory), few_keepers)) {
      question->named.insert(keeper.instance);
      question->keepers.push_back(std::move(keeper));
    }
  }
  round->asked += questions.size();
  for (bool first = true;; first = false) {
    // To whom with which.
    std::map<std::string, std::pair<Member, Questions>> work;
    for (const auto& question : questions) {
      const bool is_one = !question->said.only.empty() && !question->said.glob;
      const bool is_enough = round->certain ? question->answers >= keepers_of_each
                             : is_one       ? question->found > 0 && (question->is_settled || question->answers > 1)
                                            : question->is_settled;
      const bool is_over = is_enough || (question->answers >= keepers_of_each && question->is_known) ||
                           question->next >= question->keepers.size();
      if (is_over) continue;
      const bool is_proven = question->keepers[question->next].keeps >= proven_after && !round->certain;
      const auto count = first && is_proven ? 1 : keepers_of_each;
      for (std::size_t i = 0; i < count && question->next < question->keepers.size(); ++i) {
        const auto& keeper = question->keepers[question->next++];
        auto& [member, some] = work[keeper.instance];
        member = keeper;
        some.push_back(question);
      }
    }
    if (work.empty()) break;
    Together asked(io_);
    for (auto& [instance, one] : work) {
      co_await asked.fewer_than(most_asked_at_once);
      asked.add(ask_one(std::move(one.first), std::move(one.second), round));
    }
    co_await asked.all();
    if (round->is_too_much)
      throw Error(Status::failed, "the mesh has too many files for one question; ask for a part of it");
  }
  for (const auto& question : questions) {
    if (question->is_cut && !question->is_settled) ++round->cut;
    if (question->answers == 0)
      ++round->unanswered;
    else
      round->out.questions.push_back(question->said);
  }
}

Task<void> IndexWalk::walk(CoverAsk asked, std::shared_ptr<Round> round) {
  std::set<std::tuple<std::string, std::string, bool>> there;  // what has been asked
  Questions questions;
  const auto add = [&](const std::string& directory, const std::string& only, bool glob) {
    if (!there.emplace(directory, only, glob).second) return std::shared_ptr<Question>();
    auto question = std::make_shared<Question>();
    question->said = {directory, only, glob, {}};
    questions.push_back(question);
    return question;
  };
  const auto add_path = [&](const std::string& path) {
    return add(std::string(parent_path(path)), std::string(last_part(path)), false);
  };
  // The directories that it lies in come with it.
  const auto add_with_above = [&](const std::string& path) {
    for (std::string up(parent_path(path)); !up.empty(); up = std::string(parent_path(up)))
      static_cast<void>(add_path(up));
    return add_path(path);
  };
  if (!asked.paths.empty()) {
    for (const auto& path : asked.paths) static_cast<void>(add_with_above(path));
    co_await ask(questions, round);
    co_return;
  }
  std::set<std::string> level;  // directories of which the next part of the glob is asked
  std::set<std::string> below;  // and those of which everything is
  if (asked.pattern.empty()) {
    below.insert("");
  } else {
    // A path that is there wins over the glob that it spells.
    const auto self = add_with_above(asked.pattern);
    co_await ask(std::exchange(questions, {}), round);
    // Where nobody answers for the directory that it is in, those who answer for itself may.
    const bool may_be = self && self->answers == 0 && !asked.glob;
    if (self && (may_be || self->directories.contains(asked.pattern))) below.insert(asked.pattern);
  }
  if (asked.glob && (asked.pattern.empty() || below.empty())) {
    level.insert("");
    const auto parts = parts_of(asked.pattern);
    for (std::size_t i = 0; i < parts.size() && !level.empty(); ++i) {
      const bool is_last = i + 1 == parts.size();
      if (parts[i] == "**") {
        below.insert(level.begin(), level.end());
        break;
      }
      Questions found;
      for (const auto& directory : level)
        if (auto question = add(directory, parts[i], has_glob(parts[i]))) found.push_back(std::move(question));
      co_await ask(std::exchange(questions, {}), round);
      level.clear();
      for (const auto& question : found) level.insert(question->directories.begin(), question->directories.end());
      // (What was asked before as a part of the pattern's spelling.)
      if (!has_glob(parts[i])) {
        std::string spelt;
        for (std::size_t k = 0; k <= i; ++k) spelt = join(spelt, parts[k]);
        if (const auto at = round->known.find(spelt); at != round->known.end())
          for (const auto version : at->second)
            if (round->out.versions[version].entry.kind == Kind::directory) level.insert(spelt);
      }
      if (is_last) below.insert(level.begin(), level.end());
    }
  }
  // What is directly in a directory, and, where that was asked, all below it.
  while (!below.empty()) {
    Questions found;
    for (const auto& directory : below)
      if (auto question = add(directory, {}, false)) found.push_back(std::move(question));
    co_await ask(std::exchange(questions, {}), round);
    below.clear();
    if (!asked.below) break;
    for (const auto& question : found) below.insert(question->directories.begin(), question->directories.end());
  }
}

Task<Covered> IndexWalk::cover(CoverAsk asked) {
  const auto begun = Clock::now();
  std::shared_ptr<Round> round;
  for (;;) {
    round = std::make_shared<Round>();
    round->certain = asked.certain;
    round->deadline = begun + cover_limit;
    round->better = [this](const NodeRef& said) {
      const auto known = facts_.find(said.instance);
      if (!known || known->addresses.empty()) return said;
      NodeRef out = facts_.reference(*known);
      out.key = said.key;
      return out;
    };
    round->from = asked.from;
    co_await walk(asked, round);
    // A keeper that has just begun is still being told.
    const bool is_young = round->youngest < told_after && Clock::now() - begun < young_limit;
    if (!is_young || round->has_file(asked.pattern)) break;
    co_await sleep_for(milliseconds(200));
  }
  if (round->asked > 0 && round->unanswered == round->asked)
    throw Error(Status::unreachable, "no other node answers" + (round->trouble.empty() ? "" : ": " + round->trouble));
  auto& out = round->out;
  out.known = facts_.known();
  const auto& wanted = asked.paths.size() == 1 ? asked.paths.front() : asked.pattern;
  out.is_unsure = round->unanswered > 0;
  if (!asked.glob && !wanted.empty() && !round->known.contains(wanted)) {
    for (const auto& member : facts_.some(most_likely)) {
      static_cast<void>(round->place({facts_.reference(member), false}));
      round->likely.insert(member.instance);
    }
    for (const auto& instance : round->likely) out.likely.push_back(round->places.at(instance));
  }
  std::vector<std::string> gaps;
  const auto directories = [](std::size_t count) {
    return std::to_string(count) + (count == 1 ? " directory" : " directories");
  };
  if (round->unanswered > 0) gaps.push_back("the keepers of " + directories(round->unanswered) + " do not answer");
  if (round->cut > 0) gaps.push_back("the index has no room for all of " + directories(round->cut));
  // Where there never was a tracker, that none answers is no news.
  if (facts_.has_trackers && facts_.has_trackers())
    out.view = "no tracker answers: this is what the path index of this node and " + std::to_string(out.known) +
               (out.known == 1 ? " other node" : " other nodes") + " knows";
  for (const auto& gap : gaps) out.view += (out.view.empty() ? "incomplete: " : "; incomplete: ") + gap;
  co_return std::move(out);
}

}  // namespace mesh
