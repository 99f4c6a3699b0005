#include "progress_view.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "core/format.h"

namespace mesh {
namespace {

constexpr auto line_every = std::chrono::seconds(3);
constexpr std::size_t most_bars = 8;

int terminal_width() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

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

std::int64_t eta_of(const Progress& p) { return p.rate > 0 ? (p.total - p.done) / p.rate : -1; }

}  // namespace

std::string describe_transfer(const TransferInfo& info) {
  return figures(info.done, info.total, info.down_rate, info.eta, info.peers);
}

ProgressView::ProgressView(bool quiet) : quiet_(quiet), terminal_(!quiet && ::isatty(STDERR_FILENO) == 1) {}
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

void ProgressView::draw(const Progress& progress) {
  const auto width = static_cast<std::size_t>(terminal_width()) - 1;
  std::string out;
  if (drawn_ > 0) out = "\x1b[" + std::to_string(drawn_) + "A\x1b[J";
  drawn_ = 0;
  const auto put = [&](std::string text) {
    // Cut to the width, so that a line stays a line; never inside a UTF-8 character.
    if (text.size() > width) {
      std::size_t end = width;
      while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
      text.resize(end);
    }
    out += text + "\n";
    ++drawn_;
  };
  for (std::size_t i = 0; i < progress.active.size() && i < most_bars; ++i) {
    const auto& info = progress.active[i];
    auto name = printable(info.path);
    if (name.size() > 28) name = "..." + name.substr(name.size() - 25);
    name.resize(28, ' ');
    const bool moving = info.state == TransferState::downloading && info.detail.empty();
    put(name + " " + bar(info.done, info.total, 16) + " " +
        (moving ? describe_transfer(info) + (info.reused > 0 ? "  " + human_bytes(info.reused) + " reused" : "")
                : percent(info.done, info.total) + "  " + to_text(info.state) +
                      (info.detail.empty() ? "" : ": " + printable(info.detail))));
  }
  if (progress.active.size() > most_bars)
    put("... and " + std::to_string(progress.active.size() - most_bars) + " more");
  std::string total =
      "total " + std::to_string(progress.files_done) + "/" + std::to_string(progress.files_total) + " files";
  total.resize(std::max<std::size_t>(total.size(), 28), ' ');
  put(progress.phase.empty()
          ? total + " " + bar(progress.done, progress.total, 16) + " " +
                figures(progress.done, progress.total, progress.rate, eta_of(progress), progress.peers)
          : printable(progress.phase));
  std::fputs(out.c_str(), stderr);
}

void ProgressView::line(const Progress& progress) {
  const auto now = std::chrono::steady_clock::now();
  if (now - last_line_ < line_every) return;
  last_line_ = now;
  if (!progress.phase.empty()) {
    if (std::exchange(last_phase_, progress.phase) != progress.phase)
      std::fprintf(stderr, "%s\n", printable(progress.phase).c_str());
    return;
  }
  std::string text = std::to_string(progress.files_done) + "/" + std::to_string(progress.files_total) + " files  " +
                     figures(progress.done, progress.total, progress.rate, eta_of(progress), progress.peers);
  for (const auto& info : progress.active)
    if (!info.detail.empty()) text += "  " + printable(info.path) + ": " + printable(info.detail);
  std::fprintf(stderr, "%s\n", text.c_str());
}

}  // namespace mesh
