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
constexpr int patience_with_readers = 2;
constexpr auto answer_limit = seconds(15);
constexpr auto locate_limit = seconds(5);
constexpr auto locate_every = seconds(1);
constexpr auto shun_time = seconds(5);
constexpr int most_shunned = 4;  // times that long
constexpr auto absent_time = milliseconds(500);
constexpr auto retry_after = milliseconds(300);
constexpr std::size_t most_asked_at_once = 3;
/// What is on its way of what nobody waits for yet: what a link brings in that time.
constexpr double under_way_seconds = 2.5;
constexpr std::int64_t least_under_way = 256 * 1024;
constexpr int most_reader_failures = 8;
constexpr auto without_readers = seconds(30);
constexpr std::size_t most_of_address = 8;
constexpr std::size_t most_records = 1000;
constexpr std::size_t most_name = 64;
constexpr std::size_t most_leaves = 128 * 1024;  // in memory: 4 MiB
constexpr std::size_t most_readers = 256;

/// Nodes that read a content, and the one that they prefer for this grain.
std::uint64_t share_key(const ContentId& id, std::int64_t offset) {
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
  std::vector<int> pieces;      ///< whose leaves are to come with it
  std::map<int, Leaves> known;  ///< of the others that it lies in
  std::set<std::string> asked;
  std::size_t under_way = 0;
  std::string last;  ///< who was asked last, as in `records_`
  bool is_last_holder = true;
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
      self_(std::move(self)),
      less_under_way_(workers.loop()) {}

void RangeFetcher::add_holders(const std::vector<NodeRef>& nodes) {
  for (const auto& node : nodes)
    if (!node.instance.empty()) holders_[node.instance] = node;
}

std::string RangeFetcher::key_of(const Node& node) {
  if (node.is_holder) return node.node.instance;
  return node.node.instance + "@" + node.node.addresses.front() + ":" + std::to_string(node.node.channel_port);
}

/// Who has it by now.
Task<void> RangeFetcher::locate(std::shared_ptr<RangeFetcher> self) {
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

std::string RangeFetcher::own_instance() const { return self_ ? self_().instance : std::string(); }

/// The reader that is to bring a grain; nothing where that is this node.
std::optional<NodeRef> RangeFetcher::reader_of(std::int64_t offset, const std::string& own) {
  if (readers_.empty() || own.empty() || Clock::now() < readers_again_) return std::nullopt;
  if (!ring_ || ring_self_ != own) {
    std::vector<std::string> all{own};
    for (const auto& [instance, node] : readers_) all.push_back(instance);
    ring_ = std::make_unique<KeeperRing>(std::move(all));
    ring_self_ = own;
  }
  const auto now = Clock::now();
  for (const auto& instance : ring_->keepers(share_key(wanted_.id, offset), 2)) {
    if (instance == own) return std::nullopt;
    const auto it = readers_.find(instance);
    if (it == readers_.end()) continue;
    const auto record = records_.find(key_of({it->second, false}));
    const bool is_bad = record != records_.end() && (record->second.is_wrong || now < record->second.bad_until);
    if (!is_bad) return it->second;  // else its second does
  }
  return std::nullopt;
}

std::int64_t RangeFetcher::share(std::int64_t offset, std::int64_t length) {
  length = std::min(length, most_range_bytes);
  if (readers_.empty()) return length;
  const auto own = own_instance();
  const auto first = reader_of(offset, own);
  auto end = (offset / grain_bytes + 1) * grain_bytes;
  for (; end < offset + length; end += grain_bytes) {
    const auto other = reader_of(end, own);
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
    if (auto reader = reader_of(fetch.offset, own_instance())) return Node{std::move(*reader), false};
  // Of several holders each sends its share.
  const auto now = Clock::now();
  std::vector<std::string> good;
  std::vector<std::string> others;
  for (const auto& [instance, node] : holders_) {
    const auto& record = records_[instance];
    if (fetch.asked.contains(instance) || record.is_wrong || now < record.retry) continue;
    (now < record.bad_until ? others : good).push_back(instance);
  }
  const auto& from = good.empty() ? others : good;
  if (from.empty()) return std::nullopt;
  const auto best = KeeperRing(from).keepers(share_key(wanted_.id, fetch.offset), 1).front();
  return Node{holders_.at(best), true};
}

void RangeFetcher::hear_readers(const std::string& holder, const RangeTold& told, const asio::ip::address& at) {
  auto& [stamp, readers] = told_readers_[holder];
  if (stamp == told.readers_stamp) return;
  stamp = told.readers_stamp;
  readers.clear();
  std::map<std::string, std::size_t> of_address;
  for (const auto& node : told.readers) {
    if (readers.size() >= most_readers_told) break;
    if (node.instance.empty() || node.instance.size() > most_name || node.name.size() > most_name) continue;
    if (node.addresses.size() != 1 || node.channel_port == 0) continue;
    // A holder is none of those, whoever says that he is it; and few are at one address.
    if (holders_.contains(node.instance) || ++of_address[node.addresses.front()] > most_of_address) continue;
    if (can_be_sent_to(node.addresses.front(), at)) readers.push_back(node);
  }
  const auto own = own_instance();
  readers_.clear();
  for (const auto& [who, pair] : told_readers_)
    for (const auto& node : pair.second)
      if (node.instance != own && readers_.size() < most_readers) readers_[node.instance] = node;
  ring_.reset();
}

void RangeFetcher::shun(const std::string& key, bool is_holder) {
  if (records_.size() > most_records) std::erase_if(records_, [](const auto& pair) { return !pair.second.is_wrong; });
  const auto known = records_.find(key);
  const bool is_news = known == records_.end() || known->second.bad_until < Clock::now();
  if (!is_holder && is_news && ++reader_failures_ >= most_reader_failures) {
    reader_failures_ = 0;
    readers_again_ = Clock::now() + without_readers;
  }
  auto& record = records_[key];
  record.failures = std::min(record.failures + 1, most_shunned);
  record.bad_until = Clock::now() + record.failures * shun_time;
  record.retry = Clock::now() + record.failures * retry_after;
}

void RangeFetcher::put_leaves(int piece, std::vector<Sha256> leaves) {
  if (leaves_.contains(piece)) return;
  while (leaf_count_ > most_leaves) {
    leaf_count_ -= leaves_.at(leaves_in_turn_.front())->size();
    leaves_.erase(leaves_in_turn_.front());
    leaves_in_turn_.pop_front();
  }
  leaf_count_ += leaves.size();
  leaves_in_turn_.push_back(piece);
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
  job->known = fetch->known;
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
  for (const auto piece : fetch->pieces)
    if (const auto it = self->leaves_.find(piece); it != self->leaves_.end()) fetch->known.insert(*it);
  const bool has_all_leaves =
      std::ranges::all_of(fetch->pieces, [&](int piece) { return fetch->known.contains(piece); });
  if (fetch->length > 0 ? job->told.data.empty() : !has_all_leaves) throw Error(Status::failed, "does not have it");
  self->received_ += std::ssize(job->told.data);
  self->rate_.add(self->received_, Clock::now());
  if (fetch->is_here) co_return;
  fetch->bytes = std::move(job->told.data);
  fetch->is_here = true;
}

Task<void> RangeFetcher::ask_one(std::shared_ptr<RangeFetcher> self, std::shared_ptr<Fetch> fetch, Node node) {
  const auto key = key_of(node);
  std::string trouble;
  bool is_wrong = false;
  bool is_absent = false;  // it does not read it yet, or not any more
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
    if (node.is_holder) ask.readers_stamp = self->told_readers_[node.node.instance].first;
    const auto begun = Clock::now();
    RangeTold told = co_await channel->request(ask, answer_limit);
    const std::chrono::duration<double> took = Clock::now() - begun;
    self->records_[key].heard = Clock::now();
    self->round_trip_ = self->round_trip_.count() == 0 ? took : std::min(took, 0.9 * self->round_trip_ + 0.1 * took);
    if (node.is_holder) self->hear_readers(node.node.instance, told, channel->remote());
    auto taking = take(self, fetch, std::move(told));
    co_await std::move(taking);
    auto& record = self->records_[key];
    record.failures = 0;
    record.bad_until = record.retry = {};
    if (!node.is_holder) self->reader_failures_ = 0;
  } catch (const WrongBytes& error) {
    trouble = error.what();
    is_wrong = true;
  } catch (const Error& error) {
    trouble = error.what();
    is_absent = error.status() == Status::not_found && !node.is_holder;
  } catch (const std::exception& error) {
    trouble = error.what();
  }
  if (!trouble.empty()) {
    fetch->trouble = printable(node.node.name) + ": " + printable(trouble);
    if (is_absent)
      self->records_[key].bad_until = Clock::now() + absent_time;
    else
      self->shun(key, node.is_holder);
    if (is_wrong && !std::exchange(self->records_[key].is_wrong, true))
      self->log_(warning(printable(self->wanted_.path) + ": " + fetch->trouble + "; nothing more of it is read there")
                     .of("wrong-bytes", self->wanted_.path)
                     .by(node.node.name));
  }
  --fetch->under_way;
  fetch->news.notify();
}

/// Asks one after another until it is here.
Task<void> RangeFetcher::run(std::shared_ptr<Fetch> fetch, Clock::time_point until) {
  const auto self = shared_from_this();
  under_way_ += fetch->length;
  const std::shared_ptr<void> counted(nullptr, [self, fetch](void*) {
    self->under_way_ -= fetch->length;
    self->less_under_way_.notify();
  });
  for (;;) {
    const auto now = Clock::now();
    if (fetch->is_here) co_return;
    if (workers_.stopping()) throw Error(Status::unreachable, "the node is shutting down");
    if (now >= until)
      throw Error(Status::unreachable, printable(wanted_.path) + ": nobody sends it" +
                                           (fetch->trouble.empty() ? "" : "; " + fetch->trouble));
    // Silent is who has answered nothing else either, or has not answered this for longer than that.
    // Another reader may itself be waiting for a holder, if it is there at all.
    const auto heard = records_[fetch->last].heard;
    const bool may_be_waiting = !fetch->is_last_holder && heard != Clock::time_point();
    const auto limit = (may_be_waiting ? patience_with_readers : 1) * silence_limit();
    const auto quiet_since = std::max(fetch->begun, heard);
    const bool is_due = fetch->under_way == 0 || now - quiet_since >= limit || now - fetch->begun >= 2 * limit;
    if (is_due && fetch->under_way < most_asked_at_once) {
      if (fetch->under_way > 0) shun(fetch->last, fetch->is_last_holder);
      if (auto node = choose(*fetch)) {
        fetch->asked.insert(node->node.instance);
        fetch->last = key_of(*node);
        fetch->is_last_holder = node->is_holder;
        fetch->begun = now;
        ++fetch->under_way;
        spawn(workers_.loop(), ask_one(self, fetch, std::move(*node)));
        continue;
      }
      fetch->begun = now;
      if (!is_locating_ && now - located_ >= locate_every) {
        is_locating_ = true;
        located_ = now;
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

/// It begins with little, so that many who begin at once have heard of each other before a holder has all their
/// questions, and doubles while answers come.
std::int64_t RangeFetcher::most_under_way() const {
  const auto of_link = static_cast<std::int64_t>(under_way_seconds * static_cast<double>(rate_.rate()));
  return std::max(least_under_way, std::min(least_under_way + received_, of_link));
}

Task<std::string> RangeFetcher::fetch(std::int64_t offset, std::int64_t length, Clock::time_point until,
                                      bool holders_only, std::shared_ptr<const bool> is_urgent) {
  if (offset == first_offset_ && !first_.empty()) {
    first_offset_ = -1;
    first_.resize(std::min(first_.size(), static_cast<std::size_t>(length)));
    co_return std::move(first_);
  }
  const auto self = shared_from_this();
  // What is asked for ahead of time is not to stand before what is wanted then.
  while (!*is_urgent && under_way_ >= most_under_way() && Clock::now() < until && !workers_.stopping())
    co_await less_under_way_.wait_for(milliseconds(250));
  const auto fetch = std::make_shared<Fetch>(workers_.loop());
  fetch->offset = offset;
  // Who is to bring it may be known better by now.
  if (!holders_only) length = share(offset, length);
  // Whole blocks, but for the last.
  length = std::clamp<std::int64_t>(length, block_bytes, most_range_bytes) / block_bytes * block_bytes;
  fetch->length = std::min(length, wanted_.size - offset);
  fetch->holders_only = holders_only;
  std::vector<int> pieces;
  for (auto piece = offset / file_.layout.piece_length; piece * file_.layout.piece_length < offset + fetch->length;
       ++piece)
    pieces.push_back(static_cast<int>(piece));
  co_await know_leaves(pieces);
  for (const auto piece : pieces) {
    if (const auto it = leaves_.find(piece); it != leaves_.end())
      fetch->known.insert(*it);
    else
      fetch->pieces.push_back(piece);
  }
  co_await run(fetch, until);
  co_return std::move(fetch->bytes);
}

Task<RangeFetcher::Leaves> RangeFetcher::leaves(int piece, Clock::time_point until) {
  const std::vector<int> one{piece};
  co_await know_leaves(one);
  if (const auto it = leaves_.find(piece); it != leaves_.end()) co_return it->second;
  const auto fetch = std::make_shared<Fetch>(workers_.loop());
  fetch->offset = piece * file_.layout.piece_length;
  fetch->pieces = one;
  fetch->holders_only = true;
  co_await run(fetch, until);
  const auto it = fetch->known.find(piece);
  if (it == fetch->known.end()) throw Error(Status::failed, printable(wanted_.path) + ": its leaves are not known");
  co_return it->second;
}

}  // namespace mesh
