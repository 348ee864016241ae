// How many zeros lie before each panel of dense weights: everything here is in an anonymous
// namespace, as kernel files need it.
#pragma once

#include <cstdint>

#include "core/layouts.h"

namespace fastmnist {
namespace {

// Layers of so few inputs have no need of a lead: they have other kernels.
inline constexpr std::int64_t kFewInputs = 128;

// Bytes. Rows of 16 (modulo 64) inputs begin at four places of a line, rows of 32 at two; and the
// padding at their end is as long as kernels move them.
inline constexpr std::int64_t lead_of(std::int64_t inputs) {
  const std::int64_t left = inputs % kInputPadding;
  return inputs > kFewInputs && (left == 16 || left == 32) ? (kInputPadding - left) * kPanelOutputs
                                                           : 0;
}

}  // namespace
}  // namespace fastmnist
