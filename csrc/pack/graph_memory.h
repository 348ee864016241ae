// Where in a sample's scratch memory each value of a graph lies.
//
// A value lives from the step that gives it to the last one that reads it; values that never live
// at once may share memory. Steps that work number by number may write where they read.
//
//     step    0   1   2   3   4
//     a       [=======]                 floats 0..127
//     b           [=======]             floats 128..191
//     c                   [====]        floats 0..63: a is gone
#pragma once

#include <cstdint>
#include <vector>

#include "core/export.h"

namespace fastmnist {

struct Lifetime {
  std::int64_t floats;        // a sample
  std::int64_t first;         // step that gives it
  std::int64_t last;          // step that reads it last
  std::int64_t instead = -1;  // index of a lifetime that ends where this one begins, and whose
                              // place it may take
};

struct ScratchPlan {
  std::vector<std::int64_t> offsets;  // multiples of 16 floats: a cache line
  std::int64_t floats = 0;            // in all
};

// Lifetimes in the order of their first steps; each is put at the lowest place that is free.
FASTMNIST_API ScratchPlan plan_scratch(const std::vector<Lifetime>& lifetimes);

}  // namespace fastmnist
