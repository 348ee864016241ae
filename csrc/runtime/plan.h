// Which kernel computes each layer, by number of rows, and how many rows go through all layers
// together.
//
// A plan is part of the packed network (pack/network.h), which is machine-specific anyway. It is
// measured (planner.h) or there is none; then, and under another instruction set than the plan was
// made for, a rule decides. Every choice gives the same bits.
#pragma once

#include <cstdint>

#include "core/export.h"
#include "core/types.h"
#include "pack/network.h"
#include "runtime/linear.h"

namespace fastmnist {

// The rule: tiles from 3 rows on (784-96-256-10: 3 rows take 2.80 µs by rows and 2.76 by tiles, 4
// rows 3.28 and 2.68), strips for few rows or inputs, blocks for the rest. Few rows of a layer with
// sparse weights go by the form that should take the least time by its size.
FASTMNIST_API const LinearKernel& ruled_kernel(const KernelTable& kernels,
                                               const NetworkView& network, std::int64_t layer,
                                               const LinearShape& shape);

// A network's plan as one call reads it: looked up once, asked for every layer and block.
class FASTMNIST_API PlanView {
 public:
  PlanView(const KernelTable& kernels, const NetworkView& network);

  // What the plan says, else the rule. Indexes out of range are the rule's, too. `threaded`: other
  // threads have shares of the same batch.
  const LinearKernel& kernel(std::int64_t layer, const LinearShape& shape,
                             bool threaded = false) const;

  // Rows that go through all layers together: the plan's, else the rule's. A multiple of 32.
  std::int64_t block_rows() const;

  // What the kernels of blocks of at most so many rows need: a unit, or none, and scratch memory.
  struct Needs {
    const Unit* unit = nullptr;
    std::int64_t scratch_bytes = 0;
  };
  Needs needs(std::int64_t rows, bool threaded = false) const;

 private:
  const KernelTable& kernels_;
  const NetworkView& network_;
  bool planned_;  // there is a plan, and for these kernels
};

// Limits of a block: less leaves loaded weights unused, more pushes activations out of the cache.
inline constexpr std::int64_t kBlockRowsStep = 32;
inline constexpr std::int64_t kMaxBlockRows = 1024;

}  // namespace fastmnist
