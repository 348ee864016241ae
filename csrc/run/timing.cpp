#include "run/timing.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace fastmnist::run {
namespace {

using Clock = std::chrono::steady_clock;

double microseconds_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

// How often, and how long, calls of one size are made.
struct Pace {
  std::size_t rows;         // of a call
  std::size_t calls;        // of a model's turn
  std::size_t most_rounds;  // turns of each model
};
constexpr std::size_t kLeastRounds = 3;
constexpr double kBudget = 1e6;  // microseconds for each model

Latency summary(std::vector<double>& times, std::size_t rows) {
  return {rows, times.size(), percentile(times, 0.5), percentile(times, 0.9),
          percentile(times, 0.99)};
}

// Calls a model, one time a call; the next rows each time, from the first again behind the last.
Status take_turn(const Model& model, const Rows& rows, const Pace& pace, std::size_t& next,
                 std::int64_t* classes, std::vector<double>& times) {
  for (std::size_t i = 0; i < pace.calls; ++i) {
    if (next + pace.rows > rows.count) next = 0;
    const Clock::time_point begin = Clock::now();
    if (Status bad = model.classify(rows, next, pace.rows, classes); !bad.ok()) return bad;
    times.push_back(microseconds_since(begin));
    next += pace.rows;
  }
  return {};
}

}  // namespace

double percentile(std::vector<double>& values, double share) {
  std::sort(values.begin(), values.end());
  const double place = std::ceil(share * static_cast<double>(values.size()));
  return values[static_cast<std::size_t>(std::max(place, 1.0)) - 1];
}

Result<std::vector<std::vector<Latency>>> time_models(std::span<const Model> models,
                                                      const Rows& rows) {
  Result<Memory<std::int64_t>> classes = Memory<std::int64_t>::of(rows.count);
  if (!classes.ok()) return std::move(classes).status();
  std::vector<std::vector<Latency>> latencies(models.size());
  std::vector<Pace> paces = {{1, 50, 100}};
  if (rows.count > 1) paces.push_back({rows.count, 1, 200});
  for (const Pace& pace : paces) {
    std::vector<std::vector<double>> times(models.size());
    std::vector<std::size_t> next(models.size(), 0);
    const Clock::time_point begin = Clock::now();
    const double budget = kBudget * static_cast<double>(models.size());
    for (std::size_t round = 0; round <= pace.most_rounds; ++round) {
      if (round > kLeastRounds && microseconds_since(begin) > budget) break;
      for (std::size_t i = 0; i < models.size(); ++i) {
        if (Status bad = take_turn(models[i], rows, pace, next[i], (*classes).data(), times[i]);
            !bad.ok())
          return bad;
        if (round == 0) times[i].clear();  // warming up
      }
    }
    for (std::size_t i = 0; i < models.size(); ++i)
      latencies[i].push_back(summary(times[i], pace.rows));
  }
  return latencies;
}

}  // namespace fastmnist::run
