#include "core/super_seed_policy.h"

#include <algorithm>

namespace mesh {
namespace {

using std::chrono::milliseconds;

/// So much is on its way to a getter that its link stays busy until it hears of the next offer: the answer has to get
/// past what is queued on two links.
constexpr double ahead_seconds = 0.5;
constexpr auto assess_every = milliseconds(50);
constexpr auto measure_over = milliseconds(500);
/// Several times what a lost packet costs (RFC 6298's least timeout is a second, Linux's a fifth of one).
constexpr auto stuck_after = milliseconds(1000);
constexpr auto stuck_at_most_after = milliseconds(10'000);
/// A link takes what the kernel hands it in lumps: so much may go out at once, and then nothing for a while.
constexpr double lump_bytes = 256 * 1024;
/// A getter that takes so many times what it would take if the link were shared evenly is slow.
constexpr double slow_times = 3;
constexpr auto slow_after = milliseconds(3000);
constexpr auto rate_over_least = milliseconds(250);  // a burst into a socket's buffer is no rate
constexpr int fewest_for_each = 2;
constexpr int at_first_for_each = 3;  // until a rate is known
/// Who comes first is offered one in so many pieces: had he all of them before he heard of the next, libtorrent would
/// go on with what little it asks for at a time for up to a second.
constexpr int first_share = 64;
constexpr std::int64_t bytes_together = 16 << 20;
constexpr std::int64_t enough_to_send = 8;
constexpr unsigned in_order_among = 16;
/// A reader that waits for a piece that went so long ago to another getter gets it from the source as well: where that
/// one has not got it yet, and where it has.
constexpr auto late_after = milliseconds(1500);
constexpr auto late_at_others_after = milliseconds(6000);
/// A reader that stands still is offered another piece less often each time, up to so many doublings.
constexpr int most_idle = 3;

}  // namespace

SuperSeedPolicy::SuperSeedPolicy(int pieces, std::int64_t piece_length, std::uint32_t seed)
    : piece_length_(piece_length),
      fewest_(static_cast<int>(std::clamp<std::int64_t>(512 * 1024 / piece_length, 2, 4))),
      fewest_together_(static_cast<int>(std::clamp<std::int64_t>(bytes_together / piece_length, 4, 8))),
      most_at_first_(static_cast<int>(std::clamp<std::int64_t>(bytes_together / piece_length, fewest_together_, 48))),
      out_(static_cast<std::size_t>(pieces)),
      held_(out_.size()),
      first_(out_.size()),
      out_since_(out_.size()),
      unoffered_(pieces),
      random_(seed) {}

/// After getters came or went.
void SuperSeedPolicy::recount() {
  recounted_ = true;
  unoffered_ = static_cast<int>(std::ranges::count(out_, 0));
  offered_ = 0;
  in_order_ = false;
  for (auto& [id, known] : getters_) {
    in_order_ = in_order_ || (known.reading.in_order && known.missing > 0);
    known.to_send = 0;
    if (!known.slow) offered_ += known.offered;
  }
  const auto n = static_cast<std::int64_t>(getters_.size());
  for (std::size_t i = 0; i < out_.size(); ++i)
    if (const auto at = getters_.find(first_[i]); at != getters_.end() && at->second.state[i] == State::had)
      at->second.to_send += n - held_[i];
  for (auto& getter : getters_) place(getter);
}

/// Where the pieces end that it wants by now.
std::size_t SuperSeedPolicy::reach(Known& known) const {
  const auto is_done = [&](State state) { return state == State::had || state == State::unwanted; };
  while (known.front < out_.size() && is_done(known.state[known.front])) ++known.front;
  return known.reading.window == 0
             ? out_.size()
             : std::min(out_.size(), known.front + static_cast<std::size_t>(known.reading.window));
}

bool SuperSeedPolicy::wants_more(Known& known) const {
  if (known.missing == 0 || known.reading.window == 0) return known.missing > 0;
  const auto end = known.state.begin() + static_cast<std::ptrdiff_t>(reach(known));
  return std::find(known.state.begin() + static_cast<std::ptrdiff_t>(known.front), end, State::missing) != end;
}

/// Brings its place in `ready_` up to date.
void SuperSeedPolicy::place(Getters::value_type& getter) {
  auto& [id, known] = getter;
  if (known.key) ready_.erase(*known.key);
  known.key.reset();
  if (known.stuck || known.offered >= (known.slow ? 1 : known.window) || !wants_more(known)) return;
  // Above a few pieces more or less makes no difference: it has enough to hand on, whether to those who came with it or
  // to those who came later. Then who lacks the least is first, as it can get the rest from nobody else.
  const auto others = std::max<std::int64_t>(static_cast<std::int64_t>(getters_.size()) - 1, 1);
  const auto load = std::min(known.to_send, enough_to_send * others) + known.offered * others;
  known.key = Key(load, known.missing, id);
  ready_.insert(*known.key);
}

void SuperSeedPolicy::join(Getter id, const std::vector<bool>& have, Time now, Reading reading) {
  leave(id);
  const bool alone = std::ranges::all_of(getters_, [](const auto& other) { return other.second.missing == 0; });
  auto& known = getters_[id];
  known.state.assign(out_.size(), State::missing);
  known.window = alone ? std::max(fewest_, static_cast<int>(out_.size()) / first_share) : fewest_;
  const int pieces = static_cast<int>(out_.size());
  known.reading = {reading.in_order, std::clamp(reading.from, 0, pieces), std::clamp(reading.window, 0, pieces)};
  known.since = known.moved = known.completed = now;
  for (std::size_t i = 0; i < out_.size(); ++i) {
    if (i < have.size() && have[i]) {
      known.state[i] = State::had;
      if (out_[i]++ == 0) {
        --unoffered_;
        out_since_[i] = now;
      }
      ++held_[i];
    } else if (static_cast<int>(i) < known.reading.from) {
      known.state[i] = State::unwanted;
    } else {
      ++known.missing;
    }
  }
  recounted_ = false;
}

void SuperSeedPolicy::leave(Getter id) {
  const auto at = getters_.find(id);
  if (at == getters_.end()) return;
  withdraw(at->second);
  for (std::size_t i = 0; i < out_.size(); ++i) {
    if (at->second.state[i] != State::had) continue;
    if (--out_[i] == 0) ++unoffered_;
    --held_[i];
  }
  if (at->second.key) ready_.erase(*at->second.key);
  getters_.erase(at);
  recounted_ = false;
}

/// What is on its way to it may be offered to others.
void SuperSeedPolicy::withdraw(Known& known) {
  for (std::size_t i = 0; i < out_.size() && known.offered > 0; ++i) {
    if (known.state[i] != State::offered) continue;
    known.state[i] = State::missing;
    ++known.missing;
    --known.offered;
    if (!known.slow) --offered_;
    if (--out_[i] == 0) ++unoffered_;
  }
}

void SuperSeedPolicy::has(Getter id, int piece, Time now) {
  const auto at = getters_.find(id);
  if (at == getters_.end() || piece < 0 || static_cast<std::size_t>(piece) >= out_.size()) return;
  auto& known = at->second;
  const auto i = static_cast<std::size_t>(piece);
  if (known.state[i] == State::had) return;
  if (out_[i] == 0) out_since_[i] = now;
  if (known.state[i] == State::unwanted) {
    if (out_[i]++ == 0) --unoffered_;
  } else if (known.state[i] == State::offered) {
    if (!known.slow) --offered_;
    --known.offered;
    known.completed = now;
    if (std::exchange(known.slow, false)) offered_ += known.offered;
  } else {
    --known.missing;
    if (out_[i]++ == 0) --unoffered_;
  }
  known.state[i] = State::had;
  known.moved = now;
  known.stuck = false;
  known.idle = 0;
  ++held_[i];
  const auto first = getters_.find(first_[i]);
  if (first == at) {
    known.to_send += static_cast<std::int64_t>(getters_.size()) - held_[i];
  } else if (first != getters_.end() && first->second.state[i] == State::had) {
    --first->second.to_send;
    place(*first);
  }
  place(*at);
}

void SuperSeedPolicy::lost(Getter id, int piece) {
  const auto at = getters_.find(id);
  if (at == getters_.end() || piece < 0 || static_cast<std::size_t>(piece) >= out_.size()) return;
  const auto i = static_cast<std::size_t>(piece);
  if (at->second.state[i] != State::had) return;
  const bool was_read = at->second.reading.window > 0;
  at->second.state[i] = was_read ? State::unwanted : State::missing;
  if (!was_read) ++at->second.missing;
  at->second.front = std::min(at->second.front, i);
  --held_[i];
  if (--out_[i] == 0) ++unoffered_;
  recounted_ = false;
}

bool SuperSeedPolicy::sent(Getter id, std::int64_t bytes, Time now) {
  const auto at = getters_.find(id);
  if (at == getters_.end()) return false;
  at->second.bytes += bytes;
  at->second.idle = 0;
  at->second.moved = now;
  if (!std::exchange(at->second.stuck, false)) return false;
  place(*at);
  return true;
}

void SuperSeedPolicy::reassess(Time now) {
  if (now - assessed_ < assess_every) return;
  assessed_ = now;
  const auto pieces = [&](double bytes_per_second) {
    return static_cast<int>(bytes_per_second * ahead_seconds / static_cast<double>(piece_length_));
  };
  double together = 0;
  bool is_measured = false;
  for (auto& [id, known] : getters_) {
    const auto passed = now - known.since;
    const double rate = static_cast<double>(known.bytes) /
                        std::chrono::duration<double>(std::max<Time::duration>(passed, rate_over_least)).count();
    if (passed >= assess_every) {
      together += rate;
      known.window = std::max({fewest_, pieces(rate), passed < measure_over ? known.window : known.window * 3 / 4});
    }
    if (passed >= measure_over) {
      known.rate = rate;
      known.since = now;
      known.bytes = 0;
    }
    is_measured = is_measured || known.rate > 0;
  }
  const auto seconds = [](double count) {
    return std::chrono::duration_cast<Time::duration>(std::chrono::duration<double>(count));
  };
  const double fair = static_cast<double>(offered_) * static_cast<double>(piece_length_) / std::max(together, 1.0);
  const auto too_slow = std::max<Time::duration>(slow_after, seconds(std::min(fair * slow_times, 3600.0)));
  for (auto& getter : getters_) {
    auto& known = getter.second;
    const auto too_long = std::clamp<Time::duration>(seconds(std::min(lump_bytes / std::max(known.rate, 1.0), 60.0)),
                                                     stuck_after, stuck_at_most_after);
    if (known.stuck) {
      // It may merely have no use for what it was offered, as somebody else was to send that: another one will show.
      const int times = known.reading.window > 0 ? 1 << std::min(known.idle - 1, most_idle) : 1;
      if (now - known.stuck_since > too_long * times) {
        known.stuck = false;
        known.window = 1;
        known.moved = now;
      }
    } else if (known.offered > 0 && now - known.moved > (known.rate > 0 ? too_long : stuck_after)) {
      known.stuck = true;
      known.stuck_since = now;
      ++known.idle;
      withdraw(known);
    } else if (known.offered == 0) {
      known.moved = known.completed = now;
    } else if (!known.slow && now - known.completed > too_slow) {
      known.slow = true;
      offered_ -= known.offered;
    }
    place(getter);
  }
  const auto for_each = static_cast<std::size_t>(is_measured ? fewest_for_each : at_first_for_each);
  const auto at_least =
      static_cast<int>(std::min(getters_.size() * for_each, static_cast<std::size_t>(most_at_first_)));
  window_ = std::max({at_least, fewest_together_, pieces(together), window_ * 3 / 4});
}

int SuperSeedPolicy::choose(Known& known, Time now) {
  const auto count = reach(known);
  if (known.reading.in_order) {
    const auto begin = known.state.begin();
    const auto next = std::find(begin + static_cast<std::ptrdiff_t>(known.front), known.state.end(), State::missing);
    const auto i = static_cast<std::size_t>(next - begin);
    const auto late = now - out_since_[i] > (held_[i] == 0 ? late_after : late_at_others_after);
    // One at a time: it is what is read next that counts.
    if (out_[i] > 0 && late && known.state[known.late] != State::offered) {
      known.late = i;
      return static_cast<int>(i);
    }
  }
  if (in_order_ && unoffered_ > 0) {
    // Not strictly: two sources are to choose differently.
    int chosen = -1;
    unsigned seen = 0;
    for (std::size_t i = 0; i < count && seen < in_order_among; ++i)
      if (known.state[i] == State::missing && out_[i] == 0 && random_() % ++seen == 0) chosen = static_cast<int>(i);
    if (chosen >= 0) return chosen;
  }
  const auto start = in_order_ || known.reading.window > 0 ? 0 : random_() % count;
  int best = -1;
  int least = 0;
  for (std::size_t step = 0; step < count; ++step) {
    const auto i = (start + step) % count;
    if (known.state[i] != State::missing) continue;
    if (out_[i] == 0) return static_cast<int>(i);
    // What is on its way to another, who will hand it on, comes last.
    const int score = held_[i] > 0 ? held_[i] : INT32_MAX;
    if (best >= 0 && score >= least) continue;
    best = static_cast<int>(i);
    least = score;
  }
  return best;
}

void SuperSeedPolicy::offer(Getters::value_type& getter, std::vector<Offer>& out, Time now) {
  auto& [id, known] = getter;
  const int piece = choose(known, now);
  const auto i = static_cast<std::size_t>(piece);
  known.state[i] = State::offered;
  if (out_[i]++ == 0) {
    --unoffered_;
    first_[i] = id;
  }
  out_since_[i] = now;
  if (known.offered++ == 0) known.moved = known.completed = now;
  --known.missing;
  if (!known.slow) ++offered_;
  place(getter);
  out.push_back({id, piece});
}

std::vector<SuperSeedPolicy::Offer> SuperSeedPolicy::next(Time now) {
  if (!recounted_) recount();
  reassess(now);
  std::vector<Offer> out;
  while (!ready_.empty()) {
    if (getters_.size() > 1 && unoffered_ > 0 && offered_ >= window_) break;
    offer(*getters_.find(std::get<Getter>(*ready_.begin())), out, now);
  }
  return out;
}

}  // namespace mesh
