#include "wire/metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>

namespace mesh {

void TimeHistogram::note(std::chrono::steady_clock::duration took) {
  const auto seconds = std::max(0.0, std::chrono::duration<double>(took).count());
  const auto bucket = std::ranges::lower_bound(bounds, seconds) - bounds.begin();
  ++counts_[static_cast<std::size_t>(bucket)];
  sum_ += seconds;
}

void note_request(RequestTimes& times, std::string_view request, std::chrono::steady_clock::duration took) {
  const auto it = times.find(request);
  (it != times.end() ? it : times.emplace(request, TimeHistogram()).first)->second.note(took);
}

struct Metrics::Families {
  std::vector<prometheus::MetricFamily> all;

  prometheus::ClientMetric& add(const std::string& name, const std::string& help, prometheus::MetricType kind,
                                Labels labels) {
    const auto full = "meshswarm_" + name;
    auto it = std::ranges::find(all, full, &prometheus::MetricFamily::name);
    if (it == all.end()) {
      prometheus::MetricFamily family;
      family.name = full;
      family.help = help;
      family.type = kind;
      it = all.insert(all.end(), std::move(family));
    }
    auto& out = it->metric.emplace_back();
    for (auto& [key, value] : labels) out.label.push_back({key, std::move(value)});
    return out;
  }
};

Metrics::Metrics() : families_(std::make_unique<Families>()) {}
Metrics::~Metrics() = default;

void Metrics::gauge(const std::string& name, const std::string& help, double value, Labels labels) {
  families_->add(name, help, prometheus::MetricType::Gauge, std::move(labels)).gauge.value = value;
}

void Metrics::counter(const std::string& name, const std::string& help, double value, Labels labels) {
  families_->add(name, help, prometheus::MetricType::Counter, std::move(labels)).counter.value = value;
}

void Metrics::histogram(const std::string& name, const std::string& help, const TimeHistogram& times, Labels labels) {
  auto& out = families_->add(name, help, prometheus::MetricType::Histogram, std::move(labels)).histogram;
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < TimeHistogram::bounds.size(); ++i) {
    count += times.counts()[i];
    out.bucket.push_back({count, TimeHistogram::bounds[i]});
  }
  out.sample_count = count + times.counts().back();
  out.sample_sum = times.sum();
}

void Metrics::requests(const RequestTimes& times) {
  for (const auto& [name, one] : times)
    histogram("request_seconds", "Time from a request that was read to its answer.", one, {{"request", name}});
}

std::string Metrics::text() const { return prometheus::TextSerializer().Serialize(families_->all); }

}  // namespace mesh
