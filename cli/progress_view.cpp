#include "progress_view.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <utility>

#include "core/format.h"
#include "terminal.h"

namespace mesh {
namespace {

constexpr auto line_every = std::chrono::seconds(3);
constexpr std::size_t most_bars = 8;
/// The total, what is left out, and the line of the cursor.
constexpr std::size_t other_lines = 3;

std::string percent(std::int64_t done, std::int64_t total) {
  char out[16];
  std::snprintf(out, sizeof out, "%3d%%",
                total > 0 ? static_cast<int>(100.0 * static_cast<double>(done) / static_cast<double>(total)) : 100);
  return out;
}

std::string bar(std::int64_t done, std::int64_t total, int width) {
  const auto full =
      total > 0 ? static_cast<int>(static_cast<double>(width) * static_cast<double>(done) / static_cast<double>(total))
                : width;
  return "[" + std::string(static_cast<std::size_t>(std::clamp(full, 0, width)), '#') +
         std::string(static_cast<std::size_t>(std::clamp(width - full, 0, width)), '-') + "]";
}

std::string figures(std::int64_t done, std::int64_t total, std::int64_t rate, std::int64_t eta, int peers) {
  std::string out =
      percent(done, total) + "  " + human_bytes(done) + " / " + human_bytes(total) + "  " + human_bytes(rate) + "/s";
  if (eta >= 0) out += "  ETA " + human_seconds(eta);
  return out + "  " + std::to_string(peers) + (peers == 1 ? " peer" : " peers");
}

std::int64_t eta_of(const Progress& p, std::int64_t rate) { return rate > 0 ? (p.total - p.done) / rate : -1; }

}  // namespace

std::string describe_transfer(const TransferInfo& info) {
  return figures(info.done, info.total, info.down_rate, info.eta, info.peers);
}

ProgressView::ProgressView(bool quiet) : quiet_(quiet), terminal_(!quiet && terminal_of(STDERR_FILENO).draws) {}
ProgressView::~ProgressView() { clear(); }

void ProgressView::clear() {
  if (drawn_ > 0) std::fprintf(stderr, "\x1b[%dA\x1b[J", drawn_);
  drawn_ = 0;
}

void ProgressView::show(const Progress& progress) {
  if (quiet_) return;
  if (terminal_)
    draw(progress);
  else
    line(progress);
}

std::vector<const TransferInfo*> ProgressView::choose(const Progress& progress, std::size_t most) {
  std::map<std::string, const TransferInfo*> slowest;
  for (const auto& info : progress.active) {
    if (slowest.size() >= 2 * most) break;
    slowest.emplace(info.path, &info);
  }
  std::erase_if(shown_, [&](const auto& path) { return !slowest.contains(path); });
  if (shown_.size() > most) shown_.resize(most);
  for (const auto& info : progress.active) {
    if (shown_.size() >= most) break;
    if (std::ranges::find(shown_, info.path) == shown_.end()) shown_.push_back(info.path);
  }
  std::vector<const TransferInfo*> out;
  for (const auto& path : shown_)
    if (const auto it = slowest.find(path); it != slowest.end()) out.push_back(it->second);
  return out;
}

std::int64_t ProgressView::rate_of(const Progress& progress) {
  rate_.add(progress.done, std::chrono::steady_clock::now());
  return progress.rate > 0 ? progress.rate : rate_.rate();
}

void ProgressView::draw(const Progress& progress) {
  const auto terminal = terminal_of(STDERR_FILENO);
  const auto width = terminal.width - 1;
  // What is behind the name and the bar takes some fifty columns, and says more than a bar.
  const bool is_narrow = width < 100;
  const auto name_width = is_narrow ? std::min<std::size_t>(18, width / 4) : std::min<std::size_t>(width / 3, 60);
  const auto bar_width = static_cast<int>(is_narrow ? 6 : std::min<std::size_t>(width / 6, 40));
  const auto most = std::min(most_bars, terminal.height > other_lines + 1 ? terminal.height - other_lines : 1);
  std::string out;
  if (drawn_ > 0) out = "\x1b[" + std::to_string(drawn_) + "A\x1b[J";
  drawn_ = 0;
  const auto put = [&](const std::string& text) {
    out += cut_to(text, width) + "\n";
    ++drawn_;
  };
  const auto shown = choose(progress, most);
  for (const auto* info : shown) {
    const bool moving = info->state == TransferState::downloading && info->detail.empty();
    put(fitted(printable(info->path), name_width) + " " + bar(info->done, info->total, bar_width) + " " +
        (moving ? describe_transfer(*info) + (info->reused > 0 ? "  " + human_bytes(info->reused) + " reused" : "")
                : percent(info->done, info->total) + "  " + to_text(info->state) +
                      (info->detail.empty() ? "" : ": " + printable(info->detail))));
  }
  const auto more = progress.active.size() - shown.size() + static_cast<std::size_t>(std::max(progress.more_active, 0));
  if (more > 0) put("... and " + std::to_string(more) + " more");
  const auto total =
      "total " + std::to_string(progress.files_done) + "/" + std::to_string(progress.files_total) + " files";
  const auto rate = rate_of(progress);
  put(progress.phase.empty()
          ? fitted(total, std::max(name_width, total.size())) + " " + bar(progress.done, progress.total, bar_width) +
                " " + figures(progress.done, progress.total, rate, eta_of(progress, rate), progress.peers)
          : printable(progress.phase));
  std::fputs(out.c_str(), stderr);
}

void ProgressView::line(const Progress& progress) {
  const auto now = std::chrono::steady_clock::now();
  const auto rate = rate_of(progress);
  if (now - last_line_ < line_every) return;
  last_line_ = now;
  if (!progress.phase.empty()) {
    if (std::exchange(last_phase_, progress.phase) != progress.phase)
      std::fprintf(stderr, "%s\n", printable(progress.phase).c_str());
    return;
  }
  std::string text = std::to_string(progress.files_done) + "/" + std::to_string(progress.files_total) + " files  " +
                     figures(progress.done, progress.total, rate, eta_of(progress, rate), progress.peers);
  // One of those that do not move: the line stays one.
  for (const auto& info : progress.active) {
    if (info.detail.empty()) continue;
    text += "  " + printable(info.path) + ": " + printable(info.detail);
    break;
  }
  std::fprintf(stderr, "%s\n", text.c_str());
}

}  // namespace mesh
