#include "transfer/range_fetcher.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/address.h"
#include "core/format.h"
#include "core/merkle.h"
#include "core/piece_plan.h"

namespace mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// One that says nothing for so long is not waited for any longer; where much has been asked for, it may take longer.
constexpr auto least_silence = milliseconds(1000);
constexpr auto most_silence = milliseconds(5000);
constexpr auto answer_limit = seconds(15);
constexpr auto locate_limit = seconds(5);
constexpr auto locate_every = seconds(1);
constexpr auto shun_time = seconds(5);
constexpr int most_shunned = 4;  // times that long
constexpr std::size_t most_under_way = 3;
constexpr std::size_t most_leaves = 128 * 1024;  // in memory: 4 MiB
constexpr std::size_t most_readers = 256;

/// Nodes that read a content, and the one that they prefer for this grain.
std::uint64_t key_of(const ContentId& id, std::int64_t offset) {
  std::uint64_t out = 0;
  std::memcpy(&out, id.bytes.data(), sizeof out);
  return out ^ (static_cast<std::uint64_t>(offset / grain_bytes) * 0x9e3779b97f4a7c15U);
}

/// What is wrong with what was sent is not what is wrong with a node that cannot be reached.
struct WrongBytes : Error {
  using Error::Error;
};

}  // namespace

struct RangeFetcher::Fetch {
  explicit Fetch(asio::io_context& io) : news(io) {}
  std::int64_t offset = 0;
  std::int64_t length = 0;
  bool holders_only = false;
  bool wants_roots = false;
  std::vector<int> pieces;  ///< whose leaves are to come with it
  std::set<std::string> asked;
  std::size_t under_way = 0;
  std::string silent;  ///< who was asked last
  Clock::time_point begun{};
  bool is_here = false;
  std::string bytes;
  std::string trouble;
  Event news;
};

RangeFetcher::RangeFetcher(Workers& workers, Library& library, TrackerLinks& links, NodeChannels& channels, Log log,
                           FileEntry wanted, std::function<NodeRef()> self)
    : workers_(workers),
      library_(library),
      links_(links),
      channels_(channels),
      log_(std::move(log)),
      wanted_(std::move(wanted)),
      self_(std::move(self)) {}

void RangeFetcher::add_holders(const std::vector<NodeRef>& nodes) {
  for (const auto& node : nodes)
    if (!node.instance.empty()) holders_[node.instance] = node;
}

/// Who has it by now.
Task<void> RangeFetcher::locate(std::shared_ptr<RangeFetcher> self) {
  self->is_locating_ = true;
  self->located_ = Clock::now();
  try {
    const auto tracker = co_await self->links_.first(milliseconds(1000));
    Locate question;
    question.files.push_back(self->wanted_);
    Located told = co_await tracker->request(question, locate_limit);
    if (!told.nodes.empty()) self->holders_.clear();
    self->add_holders(told.nodes);
  } catch (const std::exception&) {
    // Nobody says: those that are known are asked again.
  }
  self->is_locating_ = false;
}

/// The reader that is to bring a grain; nothing where that is this node.
std::optional<NodeRef> RangeFetcher::reader_of(std::int64_t offset) {
  if (readers_.empty()) return std::nullopt;
  const auto own = self_ ? self_().instance : std::string();
  if (own.empty()) return std::nullopt;
  if (!ring_ || ring_self_ != own) {
    std::vector<std::string> all{own};
    for (const auto& [instance, node] : readers_) all.push_back(instance);
    ring_ = std::make_unique<KeeperRing>(std::move(all));
    ring_self_ = own;
  }
  const auto now = Clock::now();
  for (const auto& instance : ring_->keepers(key_of(wanted_.id, offset), 2)) {
    if (instance == own) return std::nullopt;
    const auto& record = records_[instance];
    if (record.is_wrong || now < record.bad_until) continue;  // its second does
    if (const auto it = readers_.find(instance); it != readers_.end()) return it->second;
  }
  return std::nullopt;
}

std::int64_t RangeFetcher::share(std::int64_t offset, std::int64_t length) {
  length = std::min(length, most_range_bytes);
  if (readers_.empty()) return length;
  const auto first = reader_of(offset);
  auto end = (offset / grain_bytes + 1) * grain_bytes;
  for (; end < offset + length; end += grain_bytes) {
    const auto other = reader_of(end);
    if (other.has_value() != first.has_value() || (first && other->instance != first->instance)) break;
  }
  return std::min(length, end - offset);
}

std::int64_t RangeFetcher::in_flight_bytes() const {
  return static_cast<std::int64_t>(1.5 * round_trip_.count() * static_cast<double>(rate_.rate()));
}

/// What is asked for first of all is behind what was asked for before on the same links: twice the time of that.
milliseconds RangeFetcher::silence_limit() const {
  const auto rate = rate_.rate();
  if (rate <= 0) return least_silence;
  return std::clamp(milliseconds(2000 * under_way_ / rate), least_silence, most_silence);
}

std::optional<RangeFetcher::Node> RangeFetcher::choose(const Fetch& fetch) {
  if (!fetch.holders_only && fetch.asked.empty())
    if (auto reader = reader_of(fetch.offset)) return Node{std::move(*reader), false};
  // Of several holders each sends its share.
  const auto now = Clock::now();
  std::vector<std::string> good;
  std::vector<std::string> others;
  for (const auto& [instance, node] : holders_) {
    const auto& record = records_[instance];
    if (fetch.asked.contains(instance) || record.is_wrong) continue;
    (now < record.bad_until ? others : good).push_back(instance);
  }
  const auto& from = good.empty() ? others : good;
  if (from.empty()) return std::nullopt;
  const auto best = KeeperRing(from).keepers(key_of(wanted_.id, fetch.offset), 1).front();
  return Node{holders_.at(best), true};
}

void RangeFetcher::hear_readers(const std::string& holder, const RangeTold& told, const asio::ip::address& at) {
  auto& [stamp, readers] = told_readers_[holder];
  if (stamp == told.readers_stamp) return;
  stamp = told.readers_stamp;
  readers.clear();
  for (const auto& node : told.readers) {
    if (readers.size() >= most_readers_told) break;
    if (node.instance.empty() || node.addresses.size() != 1 || node.channel_port == 0) continue;
    if (can_be_sent_to(node.addresses.front(), at)) readers.push_back(node);
  }
  const auto own = self_ ? self_().instance : std::string();
  readers_.clear();
  for (const auto& [who, pair] : told_readers_)
    for (const auto& node : pair.second)
      if (node.instance != own && readers_.size() < most_readers) readers_[node.instance] = node;
  ring_.reset();
}

void RangeFetcher::shun(const std::string& instance) {
  auto& record = records_[instance];
  record.failures = std::min(record.failures + 1, most_shunned);
  record.bad_until = Clock::now() + record.failures * shun_time;
}

void RangeFetcher::put_leaves(int piece, std::vector<Sha256> leaves) {
  if (leaf_count_ > most_leaves) leaves_.clear(), leaf_count_ = 0;
  leaf_count_ += leaves.size();
  leaves_[piece] = std::make_shared<const std::vector<Sha256>>(std::move(leaves));
}

/// Those that an earlier reader has left.
Task<void> RangeFetcher::know_leaves(const std::vector<int>& pieces) {
  std::vector<int> unknown;
  for (const auto piece : pieces)
    if (!leaves_.contains(piece)) unknown.push_back(piece);
  if (unknown.empty()) co_return;
  const auto find = [this, unknown] {
    std::vector<std::vector<Sha256>> out;
    for (const auto piece : unknown) out.push_back(library_.block_facts().find_leaves(file_.id, file_.layout, piece));
    return out;
  };
  auto found = co_await run_on(workers_.brief(), find);
  for (std::size_t i = 0; i < found.size(); ++i)
    if (!found[i].empty()) put_leaves(unknown[i], std::move(found[i]));
}

/// Checks what was sent. Throws Error.
Task<void> RangeFetcher::take(std::shared_ptr<RangeFetcher> self, std::shared_ptr<Fetch> fetch, RangeTold told) {
  struct Job {
    RangeTold told;
    std::optional<HashedFile> file;
    std::map<int, Leaves> known;
    std::vector<std::pair<int, std::vector<Sha256>>> fresh;
    std::string trouble;
  };
  const auto job = std::make_shared<Job>();
  job->told = std::move(told);
  const auto piece_length = piece_length_for(self->wanted_.size);
  for (auto piece = fetch->offset / piece_length; piece * piece_length < fetch->offset + fetch->length; ++piece)
    if (const auto it = self->leaves_.find(static_cast<int>(piece)); it != self->leaves_.end()) job->known.insert(*it);
  const auto check = [self, fetch, job] {
    auto& answer = job->told;
    const auto wrong = [&](const char* why) { job->trouble = why; };
    if (fetch->wants_roots) {
      job->file = read_file_of(self->wanted_.id, self->wanted_.size, answer.roots);
      if (!job->file) return wrong("sent roots of something else");
      store_roots(self->library_.db(), *job->file);
    }
    const auto& file = job->file ? *job->file : self->file_;
    for (std::size_t i = 0; i < fetch->pieces.size(); ++i) {
      const auto piece = fetch->pieces[i];
      auto leaves =
          i < answer.leaves.size() ? read_leaves(answer.leaves[i], file.layout, piece) : std::vector<Sha256>();
      if (leaves.empty()) {
        if (i < answer.leaves.size() && !answer.leaves[i].empty()) return wrong("sent leaves of something else");
        continue;
      }
      self->library_.block_facts().put_leaves(file.id, file.layout, piece, leaves);
      job->fresh.emplace_back(piece, std::move(leaves));
    }
    // Whole blocks, each of which is its leaf.
    if (std::ssize(answer.data) > fetch->length) return wrong("sent more than was asked for");
    if (std::ssize(answer.data) < fetch->length) answer.data.resize(answer.data.size() / block_bytes * block_bytes);
    const auto blocks = blocks_of(answer.data);
    std::vector<Sha256> hashes(blocks.size());
    sha256_each(blocks, hashes);
    auto offset = fetch->offset;
    for (std::size_t i = 0; i < blocks.size(); ++i, offset += block_bytes) {
      const auto piece = static_cast<int>(offset / file.layout.piece_length);
      const auto block = static_cast<std::size_t>(offset % file.layout.piece_length / block_bytes);
      const auto fresh = std::ranges::find(job->fresh, piece, &std::pair<int, std::vector<Sha256>>::first);
      const auto known = job->known.find(piece);
      const auto* leaves = fresh != job->fresh.end()   ? &fresh->second
                           : known != job->known.end() ? known->second.get()
                                                       : nullptr;
      // Not a lie: it may not know them.
      if (leaves == nullptr) {
        answer.data.resize(i * block_bytes);
        break;
      }
      if (block >= leaves->size() || (*leaves)[block] != hashes[i]) return wrong("sent wrong bytes");
    }
  };
  co_await run_on(self->workers_.brief(), check);
  if (!job->trouble.empty()) throw WrongBytes(Status::failed, job->trouble);
  if (job->file && !self->has_roots_) {
    self->file_ = std::move(*job->file);
    self->has_roots_ = true;
  }
  for (auto& [piece, leaves] : job->fresh) self->put_leaves(piece, std::move(leaves));
  const bool has_all_leaves =
      std::ranges::all_of(fetch->pieces, [&](int piece) { return self->leaves_.contains(piece); });
  if (fetch->length > 0 ? job->told.data.empty() : !has_all_leaves) throw Error(Status::failed, "does not have it");
  self->received_ += std::ssize(job->told.data);
  self->rate_.add(self->received_, Clock::now());
  if (fetch->is_here) co_return;
  fetch->bytes = std::move(job->told.data);
  fetch->is_here = true;
}

Task<void> RangeFetcher::ask_one(std::shared_ptr<RangeFetcher> self, std::shared_ptr<Fetch> fetch, Node node) {
  std::string trouble;
  bool is_wrong = false;
  try {
    const auto channel = co_await self->channels_.to(node.node);
    const auto used = self->channels_.use(channel);
    RangeAsk ask;
    ask.id = self->wanted_.id;
    ask.size = self->wanted_.size;
    ask.offset = fetch->offset;
    ask.length = fetch->length;
    for (const auto piece : fetch->pieces) ask.pieces.push_back(static_cast<std::uint32_t>(piece));
    ask.roots = fetch->wants_roots;
    ask.bring = !node.is_holder;
    if (node.is_holder && self->self_) ask.self = self->self_();
    ask.readers_stamp = self->told_readers_[node.node.instance].first;
    const auto begun = Clock::now();
    RangeTold told = co_await channel->request(ask, answer_limit);
    const std::chrono::duration<double> took = Clock::now() - begun;
    auto& record = self->records_[node.node.instance];
    record.heard = Clock::now();
    self->round_trip_ = self->round_trip_.count() == 0 ? took : std::min(took, 0.9 * self->round_trip_ + 0.1 * took);
    if (node.is_holder) self->hear_readers(node.node.instance, told, channel->remote());
    auto taking = take(self, fetch, std::move(told));
    co_await std::move(taking);
    self->records_[node.node.instance].failures = 0;
    self->records_[node.node.instance].bad_until = {};
  } catch (const WrongBytes& error) {
    trouble = error.what();
    is_wrong = true;
  } catch (const std::exception& error) {
    trouble = error.what();
  }
  if (!trouble.empty()) {
    fetch->trouble = printable(node.node.name) + ": " + printable(trouble);
    self->shun(node.node.instance);
    if (is_wrong && !std::exchange(self->records_[node.node.instance].is_wrong, true))
      self->log_(printable(self->wanted_.path) + ": " + fetch->trouble + "; nothing more of it is read there");
  }
  --fetch->under_way;
  fetch->news.notify();
}

/// Asks one after another until it is here.
Task<void> RangeFetcher::run(std::shared_ptr<Fetch> fetch, Clock::time_point until) {
  const auto self = shared_from_this();
  under_way_ += fetch->length;
  const std::shared_ptr<void> counted(nullptr, [self, fetch](void*) { self->under_way_ -= fetch->length; });
  for (;;) {
    const auto now = Clock::now();
    if (fetch->is_here) co_return;
    if (workers_.stopping()) throw Error(Status::unreachable, "the node is shutting down");
    if (now >= until)
      throw Error(Status::unreachable, printable(wanted_.path) + ": nobody sends it" +
                                           (fetch->trouble.empty() ? "" : "; " + fetch->trouble));
    // Silent is who has answered nothing else either.
    const auto quiet_since = std::max(fetch->begun, records_[fetch->silent].heard);
    const bool is_due = fetch->under_way == 0 || now - quiet_since >= silence_limit();
    if (is_due && fetch->under_way < most_under_way) {
      if (fetch->under_way > 0) shun(fetch->silent);
      if (auto node = choose(*fetch)) {
        fetch->asked.insert(node->node.instance);
        fetch->silent = node->node.instance;
        fetch->begun = now;
        ++fetch->under_way;
        spawn(workers_.loop(), ask_one(self, fetch, std::move(*node)));
        continue;
      }
      if (!is_locating_ && now - located_ >= locate_every) {
        spawn(workers_.loop(), locate(self));
      } else if (!is_locating_ && fetch->under_way == 0) {
        fetch->asked.clear();  // those that failed are asked again, after a while
      }
    }
    const auto left = std::chrono::duration_cast<milliseconds>(until - now);
    const auto tick = std::clamp<milliseconds>(left, milliseconds(1), milliseconds(fetch->under_way > 0 ? 250 : 50));
    co_await fetch->news.wait_for(tick);
  }
}

Task<void> RangeFetcher::learn(std::int64_t first, Clock::time_point until) {
  const auto find = [this] { return load_roots(library_.db(), wanted_.id, wanted_.size); };
  auto known = co_await run_on(workers_.brief(), find);
  if (known) {
    file_ = std::move(*known);
    has_roots_ = true;
    co_return;
  }
  const auto fetch = std::make_shared<Fetch>(workers_.loop());
  fetch->wants_roots = true;
  fetch->holders_only = true;
  fetch->offset = std::clamp<std::int64_t>(first, 0, wanted_.size - 1) / grain_bytes * grain_bytes;
  fetch->length = std::min(grain_bytes, wanted_.size - fetch->offset);
  fetch->pieces.push_back(static_cast<int>(fetch->offset / piece_length_for(wanted_.size)));
  co_await run(fetch, until);
  first_offset_ = fetch->offset;
  first_ = std::move(fetch->bytes);
}

Task<std::string> RangeFetcher::fetch(std::int64_t offset, std::int64_t length, Clock::time_point until,
                                      bool holders_only) {
  if (offset == first_offset_ && !first_.empty()) {
    first_offset_ = -1;
    first_.resize(std::min(first_.size(), static_cast<std::size_t>(length)));
    co_return std::move(first_);
  }
  const auto fetch = std::make_shared<Fetch>(workers_.loop());
  fetch->offset = offset;
  // Whole blocks, but for the last.
  length = std::clamp<std::int64_t>(length, block_bytes, most_range_bytes) / block_bytes * block_bytes;
  fetch->length = std::min(length, wanted_.size - offset);
  fetch->holders_only = holders_only;
  std::vector<int> pieces;
  for (auto piece = offset / file_.layout.piece_length; piece * file_.layout.piece_length < offset + fetch->length;
       ++piece)
    pieces.push_back(static_cast<int>(piece));
  co_await know_leaves(pieces);
  for (const auto piece : pieces)
    if (!leaves_.contains(piece)) fetch->pieces.push_back(piece);
  co_await run(fetch, until);
  co_return std::move(fetch->bytes);
}

Task<RangeFetcher::Leaves> RangeFetcher::leaves(int piece, Clock::time_point until) {
  const std::vector<int> one{piece};
  co_await know_leaves(one);
  if (!leaves_.contains(piece)) {
    const auto fetch = std::make_shared<Fetch>(workers_.loop());
    fetch->offset = piece * file_.layout.piece_length;
    fetch->pieces = one;
    fetch->holders_only = true;
    co_await run(fetch, until);
  }
  const auto it = leaves_.find(piece);
  if (it == leaves_.end()) throw Error(Status::failed, printable(wanted_.path) + ": its leaves are not known");
  co_return it->second;
}

}  // namespace mesh
