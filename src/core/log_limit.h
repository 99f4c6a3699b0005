// Keeps a log from being flooded: of what is said in one minute, so many lines. Pure; any one thread.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace mesh {

class LogLimit {
 public:
  using Clock = std::chrono::steady_clock;

  explicit LogLimit(int lines_a_minute) : most_(lines_a_minute) {}

  /// What is to be written for this line: itself, nothing, or how many were left out besides.
  std::vector<std::string> pass(const std::string& line, Clock::time_point now) {
    std::vector<std::string> out;
    if (now - begun_ >= std::chrono::minutes(1)) {
      if (left_out_ > 0) out.push_back(std::to_string(left_out_) + " more lines were left out");
      begun_ = now;
      said_ = left_out_ = 0;
    }
    if (said_ < most_) {
      ++said_;
      out.push_back(line);
    } else if (left_out_++ == 0) {
      out.emplace_back("as many lines as --max-log-lines allows in a minute; the rest of it is left out");
    }
    return out;
  }

 private:
  long most_;
  long said_ = 0;
  long left_out_ = 0;
  Clock::time_point begun_{};
};

}  // namespace mesh
