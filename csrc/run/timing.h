// How long calls take.
#pragma once

#include <span>
#include <vector>

#include "run/models.h"

namespace fastmnist::run {

// Of calls with so many rows each, in microseconds.
struct Latency {
  std::size_t rows = 0;
  std::size_t calls = 0;
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;
  double rows_per_second() const { return static_cast<double>(rows) * 1e6 / p50; }
};

// The value that a share of them do not exceed; of at least one. Sorts.
double percentile(std::vector<double>& values, double share);

// For each model: of one row a call, and of all rows where they are more. Models take turns, so
// that what else the machine does meets all of them; rows change from call to call. Takes some 2
// seconds a model, longer where three calls do.
Result<std::vector<std::vector<Latency>>> time_models(std::span<const Model> models,
                                                      const Rows& rows);

}  // namespace fastmnist::run
