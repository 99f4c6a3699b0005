#include "serve/range_teller.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <set>

#include "core/address.h"
#include "core/merkle.h"
#include "core/piece_plan.h"
#include "serve/listed_file.h"

namespace mesh {
namespace {

using std::chrono::seconds;

constexpr auto bring_limit = seconds(10);  // of what another reader asks for
constexpr auto opens_within = seconds(1);
constexpr auto read_lately = seconds(30);  // a client asks for one range after another
constexpr std::size_t most_open = 64;
constexpr std::size_t most_contents = 256;  // whose readers are known
constexpr std::size_t most_readers = 256;   // of each
constexpr std::size_t most_of_address = 8;  // of one content
constexpr std::size_t most_name = 64;
/// Answers take memory until they are sent: as much of all channels, and of one.
constexpr std::int64_t most_under_way = std::int64_t{128} << 20;
constexpr std::int64_t most_of_channel = std::int64_t{32} << 20;

void check_range(const RangeAsk& asked) {
  const auto size = asked.size;
  if (size <= 0 || size > most_torrent_bytes) throw Error(Status::failed, "no content has that size");
  if (asked.offset < 0 || asked.length < 0 || asked.offset >= size || asked.length > size - asked.offset ||
      asked.length > most_range_bytes || asked.offset % block_bytes != 0)
    throw Error(Status::failed, "the content has no such range");
  // Of the pieces that it lies in: whoever is asked may have to read them.
  const auto piece_length = piece_length_for(size);
  const auto last = asked.length == 0 ? asked.offset : asked.offset + asked.length - 1;
  for (const auto piece : asked.pieces)
    if (std::cmp_less(piece, asked.offset / piece_length) || std::cmp_greater(piece, last / piece_length))
      throw Error(Status::failed, "asks for leaves of something else");
  if (std::set(asked.pieces.begin(), asked.pieces.end()).size() != asked.pieces.size())
    throw Error(Status::failed, "a part is asked for twice");
}

std::string leaves_of(Storage& storage, const PieceLayout& layout, int piece, const ContentId& id, BlockFacts& facts) {
  if (const auto known = facts.find_leaves(id, layout, piece); !known.empty()) return tell_leaves(known);
  const auto made = make_leaves(storage, layout, piece);
  facts.put_leaves(id, layout, piece, made);
  return tell_leaves(made);
}

}  // namespace

void RangeTeller::serve(Handlers& handlers) {
  handlers.on<RangeAsk>(
      [this](ChannelPtr channel, RangeAsk asked) { return range(std::move(channel), std::move(asked)); });
  handlers.on<ProfileAsk>([this](ChannelPtr, ProfileAsk asked) { return profile(std::move(asked)); });
}

/// Who reads it, and answers others, is told to those; and is told of them, where they are others than the last time.
void RangeTeller::note_reader(const Channel& channel, const RangeAsk& asked, RangeTold& out) {
  const auto now = Clock::now();
  std::erase_if(readers_, [&](const auto& pair) { return now - pair.second.asked > reader_kept; });
  const auto& self = asked.self;
  if (self.instance.empty() || self.instance.size() > most_name || self.name.size() > most_name ||
      self.channel_port == 0 || channel.remote().is_unspecified())
    return;
  if (!readers_.contains(asked.id) && readers_.size() >= most_contents) return;
  auto& readers = readers_[asked.id];
  readers.asked = now;
  if (std::erase_if(readers.all, [&](const auto& pair) { return now - pair.second.asked > reader_kept; }) > 0)
    readers.stamp = ++last_stamp_;
  const auto at = channel.remote().to_string();
  const auto known = readers.all.find(self.instance);
  // Nobody is who he says for somebody else.
  const bool is_another = known != readers.all.end() && known->second.node.addresses.front() != at;
  if (is_another || (known == readers.all.end() && readers.all.size() >= most_readers)) return;
  const auto is_there = [&](const auto& pair) { return pair.second.node.addresses.front() == at; };
  if (known == readers.all.end() &&
      std::cmp_greater_equal(std::ranges::count_if(readers.all, is_there), most_of_address))
    return;
  if (known == readers.all.end() || known->second.node.channel_port != self.channel_port) {
    auto& node = readers.all[self.instance].node;
    node.name = self.name;
    node.instance = self.instance;
    node.channel_port = self.channel_port;
    node.addresses = {at};
    readers.stamp = ++last_stamp_;
  }
  readers.all[self.instance].asked = now;
  out.readers_stamp = readers.stamp;
  if (asked.readers_stamp == readers.stamp) return;
  for (const auto& [instance, reader] : readers.all)
    if (instance != self.instance && out.readers.size() < most_readers_told &&
        can_be_sent_to(reader.node.addresses.front(), channel.remote()))
      out.readers.push_back(reader.node);
}

/// Waits until the answer may be made; it is counted while what is returned lives. (How many wait the channel bounds.)
Task<std::shared_ptr<void>> RangeTeller::take_room(ChannelPtr channel, std::int64_t bytes) {
  const auto* key = channel.get();
  const auto has_room = [&] {
    const auto own = of_each_.find(key);
    return (under_way_ == 0 || under_way_ + bytes <= most_under_way) &&
           (own == of_each_.end() || own->second + bytes <= most_of_channel);
  };
  while (!has_room() && channel->is_open() && !workers_.stopping())
    co_await less_under_way_.wait_for(std::chrono::milliseconds(250));
  under_way_ += bytes;
  of_each_[key] += bytes;
  std::shared_ptr<void> out(nullptr, [this, channel, bytes](void*) {
    under_way_ -= bytes;
    if ((of_each_[channel.get()] -= bytes) <= 0) of_each_.erase(channel.get());
    less_under_way_.notify();
  });
  co_return out;
}

Task<RangeTold> RangeTeller::range(ChannelPtr channel, RangeAsk asked) {
  check_range(asked);
  const auto room = co_await take_room(channel, asked.length + grain_bytes);
  // A block at least: less cannot be proven.
  const auto most = std::max<std::int64_t>(upload_.handful(std::max(asked.length, std::int64_t{1})), block_bytes);
  RangeTold out;
  // Holders tell of who reads as soon as he has asked them for the first time.
  for (const auto until = Clock::now() + opens_within;
       cache_.is_opening(asked.id, asked.size) && Clock::now() < until && channel->is_open();)
    co_await sleep_for(std::chrono::milliseconds(5));
  if (!asked.path.empty()) {
    out = co_await candidate(asked, most);
  } else if (library_.inventory().find(asked.id, asked.size) != nullptr) {
    const OpenedPtr opened = co_await open(asked.id, asked.size);
    const auto read = [this, opened, &asked, most] {
      RangeTold told;
      if (asked.roots) told.roots = roots_of(opened->file);
      for (const auto piece : asked.pieces)
        told.leaves.push_back(leaves_of(*opened->storage, opened->file.layout, static_cast<int>(piece), asked.id,
                                        library_.block_facts()));
      told.data.resize(static_cast<std::size_t>(std::min(asked.length, most)));
      if (const auto ec = opened->storage->read(asked.offset, told.data)) throw Error(Status::failed, ec.message());
      return told;
    };
    out = co_await run_on(workers_.brief(), read);
    note_reader(*channel, asked, out);
  } else if (const auto content = cache_.find(asked.id, asked.size)) {
    out = co_await of_readers(channel, content, asked, most);
  } else {
    throw Error(Status::not_found, "does not hold it");
  }
  sent_ += std::ssize(out.data);
  const std::function<bool()> unwanted = [channel] { return !channel->is_open(); };
  co_await upload_.spend(std::ssize(out.data) + 1, unwanted);
  co_return out;
}

/// What readers have here, and fetch where another one asks for it.
Task<RangeTold> RangeTeller::of_readers(ChannelPtr channel, CachedContentPtr content, RangeAsk asked,
                                        std::int64_t most) {
  RangeTold out;
  const auto length = std::min(asked.length, most);
  if (!content->has(asked.offset, length) && !asked.bring) throw Error(Status::not_found, "does not have these bytes");
  // It is open for who reads it here: what others want of it does not keep it so.
  const bool is_read = content->users() > 0 || Clock::now() - content->last_used() < read_lately;
  const bool brings = asked.bring && is_read;
  if (!content->has(asked.offset, length) && !brings) throw Error(Status::not_found, "does not read it any more");
  if (brings) content->want(asked.offset, asked.offset + length, true);
  const std::function<bool()> is_stopped = [channel] { return !channel->is_open(); };
  const auto until = Clock::now() + bring_limit;
  std::vector<char> part(static_cast<std::size_t>(std::min(length, grain_bytes)));
  while (std::ssize(out.data) < length) {
    const auto left = static_cast<std::size_t>(length - std::ssize(out.data));
    const auto into = std::span(part).first(std::min(part.size(), left));
    const auto n = co_await content->read(asked.offset + std::ssize(out.data), into, until, is_stopped, true);
    if (n == 0) break;
    out.data.append(part.data(), n);
  }
  const auto know = [this, content, &asked] {
    std::vector<std::string> leaves;
    for (const auto piece : asked.pieces)
      leaves.push_back(
          tell_leaves(library_.block_facts().find_leaves(asked.id, content->file().layout, static_cast<int>(piece))));
    return leaves;
  };
  if (!asked.pieces.empty()) out.leaves = co_await run_on(workers_.brief(), know);
  if (asked.roots) out.roots = roots_of(content->file());
  co_return out;
}

/// A file that nobody has hashed, which must be what it was all along.
Task<RangeTold> RangeTeller::candidate(RangeAsk asked, std::int64_t most) {
  const auto read = [this, &asked, most] {
    RangeTold told;
    const auto opened = open_listed(library_.gate(), asked.path, asked.size, asked.mtime);
    const auto& stamp = opened.local.stamp;
    told.ctime = stamp.ctime;
    if (asked.ctime != 0 && asked.ctime != told.ctime)
      throw Error(Status::failed, "it has changed since it was first read");
    const auto length = static_cast<std::size_t>(std::min(asked.length, most));
    told.data.resize(length);
    for (std::size_t at = 0; at < length;) {
      const auto n =
          ::pread(opened.fd.get(), told.data.data() + at, length - at, asked.offset + static_cast<std::int64_t>(at));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) throw Error(Status::failed, std::generic_category().message(errno));
      if (n == 0) throw Error(Status::failed, "became shorter while it was read");
      at += static_cast<std::size_t>(n);
    }
    if (stamp_now(opened.fd.get()) != stamp) throw Error(Status::failed, "it changed while it was read");
    if (const auto id = library_.db().find_hash(stamp)) told.id = *id;
    return told;
  };
  co_return co_await run_on(workers_.brief(), read);
}

/// Of what it offers, or has read; news are kept of what it offers alone.
Task<ProfileTold> RangeTeller::profile(ProfileAsk asked) {
  const bool is_offered = library_.inventory().find(asked.id, asked.size) != nullptr;
  if (!is_offered && !cache_.find(asked.id, asked.size)) throw Error(Status::not_found, "does not hold it");
  ProfileTold out;
  if (asked.news.empty())
    out.profile = co_await profiles_.find(asked.id, asked.size);
  else if (is_offered)
    co_await profiles_.hear(asked.id, asked.size, std::move(asked.news));
  co_return out;
}

void RangeTeller::tend() {
  const auto now = Clock::now();
  std::erase_if(open_, [&](const auto& pair) { return now - pair.second->used > reader_kept; });
}

/// Open for a while: one reader asks many times.
Task<RangeTeller::OpenedPtr> RangeTeller::open(ContentId id, std::int64_t size) {
  const auto now = Clock::now();
  if (const auto it = open_.find(id); it != open_.end()) {
    const OpenedPtr known = it->second;
    if (!known->storage->is_faulted() && known->file.layout.size == size) {
      known->used = now;
      co_return known;
    }
    open_.erase(it);
  }
  auto held = co_await seeder_.open_for_seeding(id, size);
  const auto made = std::make_shared<Opened>();
  made->storage = std::move(held.storage);
  made->file = std::move(held.file);
  made->used = now;
  if (open_.size() >= most_open)
    open_.erase(std::ranges::min_element(open_, {}, [](const auto& pair) { return pair.second->used; }));
  open_[id] = made;
  co_return made;
}

}  // namespace mesh
