#include "core/merkle.h"

#ifdef MESH_HAS_IPSEC_MB
#define NO_COMPAT_IMB_API_053  // names that collide with OpenSSL's
#include <intel-ipsec-mb.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <vector>
#endif

namespace mesh {
namespace {

void one_by_one(std::span<const std::string_view> messages, std::span<Sha256> out) {
  for (std::size_t i = 0; i < messages.size(); ++i) out[i] = sha256(messages[i]);
}

#ifdef MESH_HAS_IPSEC_MB

constexpr std::size_t most_bytes = 65534;        // of a message, to the library
constexpr std::size_t worth_lanes = 512 * 1024;  // setting them up takes as long as hashing that

/// One of the library's ways to hash; for one thread.
class Manager {
 public:
  using Init = void (*)(IMB_MGR*);
  explicit Manager(Init init) : manager_(alloc_mb_mgr(0), free_mb_mgr) {
    if (!manager_) return;
    init(manager_.get());
    if (imb_get_errno(manager_.get()) != 0 || !is_right()) manager_.reset();
  }

  [[nodiscard]] bool works() const { return manager_ != nullptr; }
  [[nodiscard]] bool has(std::uint64_t feature) const { return (manager_->features & feature) == feature; }

  /// False when the library could not: then nothing is known of `out`.
  bool hash(std::span<const std::string_view> messages, std::span<Sha256> out) {
    bool good = true;
    const auto look = [&](const IMB_JOB* job) { good = good && job->status == IMB_STATUS_COMPLETED; };
    std::size_t submitted = 0;
    std::size_t done = 0;
    for (std::size_t i = 0; i < messages.size(); ++i) {
      if (messages[i].empty() || messages[i].size() > most_bytes) {
        out[i] = sha256(messages[i]);
        continue;
      }
      IMB_JOB* job = IMB_GET_NEXT_JOB(manager_.get());
      *job = {};
      job->cipher_mode = IMB_CIPHER_NULL;
      job->cipher_direction = IMB_DIR_ENCRYPT;
      job->chain_order = IMB_ORDER_HASH_CIPHER;
      job->hash_alg = IMB_AUTH_SHA_256;
      job->src = reinterpret_cast<const std::uint8_t*>(messages[i].data());
      job->msg_len_to_hash_in_bytes = messages[i].size();
      job->auth_tag_output = reinterpret_cast<std::uint8_t*>(out[i].bytes.data());
      job->auth_tag_output_len_in_bytes = out[i].bytes.size();
      ++submitted;
      for (job = IMB_SUBMIT_JOB(manager_.get()); job != nullptr; job = IMB_GET_COMPLETED_JOB(manager_.get())) {
        look(job);
        ++done;
      }
    }
    while (const IMB_JOB* job = IMB_FLUSH_JOB(manager_.get())) {
      look(job);
      ++done;
    }
    return good && done == submitted;
  }

 private:
  /// Were the library wrong on this processor, every peer would be banned for its bytes.
  [[nodiscard]] bool is_right() {
    const std::string text(2000, 'x');
    std::vector<std::string_view> messages;
    for (std::size_t length = 1; length < text.size(); length += 61) messages.emplace_back(text.data(), length);
    std::vector<Sha256> side_by_side(messages.size());
    std::vector<Sha256> one_after_another(messages.size());
    one_by_one(messages, one_after_another);
    return hash(messages, side_by_side) && side_by_side == one_after_another;
  }

  std::unique_ptr<IMB_MGR, void (*)(IMB_MGR*)> manager_;
};

void init_auto(IMB_MGR* manager) { init_mb_mgr_auto(manager, nullptr); }

/// One thread's lanes: two for the processor's SHA instructions, or up to sixteen of its vector registers.
class Lanes {
 public:
  /// Nothing where the processor has none.
  static std::unique_ptr<Lanes> make() {
    std::unique_ptr<Lanes> out(new Lanes);
    return out->few_->works() ? std::move(out) : nullptr;
  }

  /// One by one is as fast for fewer messages.
  [[nodiscard]] std::size_t fewest() const { return few_->has(IMB_FEATURE_SHANI) ? 2 : 4; }

  /// False when the library could not: then nothing is known of `out`.
  bool hash(std::span<const std::string_view> messages, std::span<Sha256> out) {
    const auto wide = many_ ? messages.size() / wide_lanes * wide_lanes : 0;
    if (wide > 0 && !many_->hash(messages.first(wide), out.first(wide))) return false;
    return wide == messages.size() || few_->hash(messages.subspan(wide), out.subspan(wide));
  }

 private:
  Lanes() {
    static const bool many_are_faster = compare();
    few_ = std::make_unique<Manager>(init_auto);
    // With AVX-512 that is sixteen lanes, which are good for sixteen messages alone.
    if (!few_->works() || !has_both(*few_)) return;
    if (many_are_faster) many_ = std::move(few_);
    few_ = std::make_unique<Manager>(init_mb_mgr_avx2);
  }

  static bool has_both(const Manager& manager) {
    return manager.has(IMB_FEATURE_SHANI) && manager.has(IMB_FEATURE_AVX512_SKX);
  }
  /// Which are faster depends on the processor.
  static bool compare() {
    Manager many(init_auto);
    if (!many.works() || !has_both(many)) return false;
    Manager few(init_mb_mgr_avx2);
    return few.works() && time_of(many) < time_of(few);
  }
  static std::chrono::steady_clock::duration time_of(Manager& manager) {
    const std::string block(16 * 1024, 'x');
    const std::vector<std::string_view> messages(wide_lanes, block);
    std::vector<Sha256> out(messages.size());
    auto best = std::chrono::steady_clock::duration::max();
    for (int i = 0; i < 4; ++i) {
      const auto begun = std::chrono::steady_clock::now();
      if (!manager.hash(messages, out)) return std::chrono::steady_clock::duration::max();
      best = std::min(best, std::chrono::steady_clock::now() - begun);
    }
    return best;
  }

  static constexpr std::size_t wide_lanes = 16;
  std::unique_ptr<Manager> few_;
  std::unique_ptr<Manager> many_;  ///< of sixteen lanes, where they are faster
};

#endif

}  // namespace

void sha256_each(std::span<const std::string_view> messages, std::span<Sha256> out) {
#ifdef MESH_HAS_IPSEC_MB
  static thread_local std::unique_ptr<Lanes> lanes;
  static thread_local std::size_t hashed = 0;
  if (hashed < worth_lanes) {
    for (const auto message : messages) hashed += message.size();
    if (hashed >= worth_lanes) lanes = Lanes::make();
  }
  if (lanes && messages.size() >= lanes->fewest() && lanes->hash(messages, out)) return;
#endif
  one_by_one(messages, out);
}

}  // namespace mesh
