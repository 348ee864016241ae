// What every kind of step takes and gives: one rule for packing a graph and for checking one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/types.h"
#include "pack/graph.h"

namespace fastmnist {

inline constexpr std::uint32_t kGraphMagic = 0x47474d46;  // "FMGG" in memory
inline constexpr std::int64_t kGraphPixelValues = 256;
inline constexpr std::int64_t kMostValues = std::int64_t{1} << 26;  // of a sample

// Of a value: positions of so many numbers.
struct ValueSize {
  std::int64_t positions;
  std::int64_t width;

  std::int64_t all() const { return positions * width; }
  bool operator==(const ValueSize&) const = default;
};

std::string text_of(const ValueSize& size);

// Which may write where they read: each number depends on those at its own place, or its row is
// read before it is written.
bool works_in_place(StepKind kind);

// Which may read what is the same for every sample; the others go from sample to sample, beyond it.
bool takes_constants(StepKind kind);

// What a step of that kind gives for such operands; {0, 0} where they don't fit. For kInt8, kFloat
// and kSlice the width is asked for, and for joins the shape: `wanted`.
ValueSize size_of(StepKind kind, const std::vector<ValueSize>& operands, const ValueSize& wanted,
                  std::int64_t begin);

// Bytes of a step's section for an operand of that size; -1: those that it has.
std::int64_t section_bytes(StepKind kind, const ValueSize& x, std::int64_t outputs,
                           bool has_tables);

}  // namespace fastmnist
