// What a service tells Prometheus (its text format, version 0.0.4): families of numbers, made anew for each request
// from what the service counts anyway. Names have "meshswarm_" before them. One thread.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mesh {

/// How long things take: counts in fixed buckets, from 1 ms to 30 s.
class TimeHistogram {
 public:
  static constexpr std::array<double, 14> bounds{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                                 0.25,  0.5,    1,     2.5,  5,     10,   30};
  void note(std::chrono::steady_clock::duration took);
  [[nodiscard]] const std::array<std::uint64_t, bounds.size() + 1>& counts() const {
    return counts_;
  }                                                  ///< the last: more
  [[nodiscard]] double sum() const { return sum_; }  ///< seconds

 private:
  std::array<std::uint64_t, bounds.size() + 1> counts_{};
  double sum_ = 0;
};

/// Of each kind of request. Their names are the handlers' own, never what a stranger sent.
using RequestTimes = std::map<std::string, TimeHistogram, std::less<>>;
void note_request(RequestTimes& times, std::string_view request, std::chrono::steady_clock::duration took);

class Metrics {
 public:
  using Labels = std::vector<std::pair<std::string, std::string>>;
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  /// What goes up and down. Samples of one name differ in their labels.
  void gauge(const std::string& name, const std::string& help, double value, Labels labels = {});
  /// What only grows, from the start of the process; its name ends in "_total".
  void counter(const std::string& name, const std::string& help, double value, Labels labels = {});
  void histogram(const std::string& name, const std::string& help, const TimeHistogram& times, Labels labels = {});
  void requests(const RequestTimes& times);
  [[nodiscard]] std::string text() const;
  static constexpr const char* type = "text/plain; version=0.0.4; charset=utf-8";

 private:
  struct Families;
  std::unique_ptr<Families> families_;
};

}  // namespace mesh
