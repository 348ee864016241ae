// What a kernel can reach at best: one probe per instruction set, measured by runtime/limits.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastmnist {

// Operands of a product probe: aligned to 64, small enough to stay in L1.
inline constexpr std::int64_t kPeakOperandBytes = 16384;

// How a read probe walks its buffer. What is fastest differs between caches and processors.
struct ReadPattern {
  int streams;         // 1, 2, 4 or 8 equal parts of the buffer, read side by side
  std::int64_t ahead;  // bytes by which each is prefetched; 0: left to the processor
};

// A read probe's buffer has a multiple of this many bytes.
inline constexpr std::int64_t kReadGranularity = 4096;

struct PeakProbe {
  // Exact products of bytes on independent accumulators, on operands from registers or L1. Returns
  // how many multiply-accumulates `rounds` rounds are; their time may depend on the operands'
  // values.
  std::int64_t (*products)(const std::byte* operands, std::int64_t rounds);
  // The same in float32.
  std::int64_t (*float_products)(std::int64_t rounds);
  // Loads every byte once, by the widest loads that the set has.
  std::uint64_t (*read)(const std::byte* data, std::int64_t bytes, ReadPattern pattern);
};

}  // namespace fastmnist
