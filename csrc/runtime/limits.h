// What one core of this machine can do at best, measured: what kernels are compared with.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/export.h"
#include "core/status.h"

namespace fastmnist {

// Reading from one level of the memory hierarchy.
struct ReadLimit {
  std::int64_t level_bytes;   // size of the cache as the system states it; memory: 0
  std::int64_t buffer_bytes;  // what was read again and again
  double bytes_per_second;
};

// Rates of one thread, each the best of several repeats and, for reads, of several patterns.
struct Limits {
  double products_per_second;         // int8 multiply-accumulates, on zeros
  double random_products_per_second;  // the same on random bytes, which can be slower
  double float_products_per_second;   // float32 multiply-accumulates
  ReadLimit l1;
  ReadLimit l2;  // half of it
  ReadLimit l3;  // several times L2, at most half of L3
  // 256 MB, or less where that is enough. Where L3 is larger than that (it is one part of a shared
  // one in many virtual machines), some of it may come from there.
  ReadLimit memory;
};

// Takes 0.3 to 0.6 s, half of it to fill memory. Refused where the name is unknown or this machine
// cannot run it.
FASTMNIST_API Result<Limits> measure_limits(std::string_view isa);

}  // namespace fastmnist
