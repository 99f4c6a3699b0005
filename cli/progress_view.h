// Transfers as a person watches them: in place on a terminal, a line every few seconds elsewhere. On stderr.
#pragma once

#include <chrono>
#include <string>

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

  bool quiet_;
  bool terminal_;
  int drawn_ = 0;
  std::string last_phase_;
  std::chrono::steady_clock::time_point last_line_ = std::chrono::steady_clock::now();
};

/// "  37%  1.2 GB / 3.4 GB  56.1 MB/s  ETA 39 s  5 peers"
[[nodiscard]] std::string describe_transfer(const TransferInfo& info);

}  // namespace mesh
