// Sizes rounded up. Everything is in an anonymous namespace, as kernel files need it.
#pragma once

#include <cstdint>

#include "core/types.h"

namespace fastmnist {
namespace {

// Neither is below 0, nor `by` 0.
inline constexpr std::int64_t divide_up(std::int64_t value, std::int64_t by) {
  return (value + by - 1) / by;
}

inline constexpr std::int64_t round_up(std::int64_t value, std::int64_t to) {
  return divide_up(value, to) * to;
}

// Every piece of memory begins at a cache line.
inline constexpr std::int64_t kAlignment = 64;

inline constexpr std::int64_t aligned(std::int64_t bytes) { return round_up(bytes, kAlignment); }

// Panels of so many outputs; the last may be partly there.
inline constexpr std::int64_t panels_of(std::int64_t outputs) {
  return divide_up(outputs, kPanelOutputs);
}

}  // namespace
}  // namespace fastmnist
