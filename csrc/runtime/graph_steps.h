// What each step of a graph does to a block of rows that lie in memory.
#pragma once

#include <cstdint>

#include "core/types.h"
#include "pack/graph.h"

namespace fastmnist {

// Rows of a value: `samples` of size() numbers each, one behind the other; a constant is one for
// all of them.
struct StepRows {
  const float* data;
  std::int64_t positions;
  std::int64_t width;
  bool constant;

  std::int64_t size() const { return positions * width; }
};

// Any step but kInt8. y: floats, or int64 for kArgMax.
void run_step(const KernelTable& kernels, const GraphView& graph, const StepRecord& step,
              const StepRows* operands, std::int64_t samples, void* y);

}  // namespace fastmnist
