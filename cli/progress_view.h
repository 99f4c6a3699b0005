// Transfers as a person watches them: in place on a terminal, a line every few seconds elsewhere. On stderr.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "core/rate_window.h"
#include "wire/messages.h"

namespace mesh {

class ProgressView {
 public:
  explicit ProgressView(bool quiet);
  /// Leaves the terminal as it found it.
  ~ProgressView();
  ProgressView(const ProgressView&) = delete;
  ProgressView& operator=(const ProgressView&) = delete;

  void show(const Progress& progress);
  /// Takes the bars away, so that something else can be printed.
  void clear();

 private:
  void draw(const Progress& progress);
  void line(const Progress& progress);

  /// Those of the slowest that are drawn: they stay where they are for as long as they are among them.
  [[nodiscard]] std::vector<const TransferInfo*> choose(const Progress& progress, std::size_t most);
  [[nodiscard]] std::int64_t rate_of(const Progress& progress);

  bool quiet_;
  bool terminal_;
  int drawn_ = 0;
  std::vector<std::string> shown_;
  RateWindow rate_;  ///< of what is here, where the node says nothing of what comes
  std::string last_phase_;
  std::chrono::steady_clock::time_point last_line_ = std::chrono::steady_clock::now();
};

/// "  37%  1.2 GB / 3.4 GB  56.1 MB/s  ETA 39 s  5 peers"
[[nodiscard]] std::string describe_transfer(const TransferInfo& info);

}  // namespace mesh
