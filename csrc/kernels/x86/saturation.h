// What the epilogues of all x86 kernels share: in an anonymous namespace, so that each file keeps a
// copy of its own.
//
// The normative epilogue clamps, quantizes and clamps again. The last clamp is the saturation of
// the packs. `kSaturate` drops the others, too, where they change nothing: with zero point 0 and a
// lower bound of at most 0 the packs do the same, provided that no value overflows int32 on its
// way, which packing proved from the weights (LinearArgs::y_bounded).
#pragma once

#include "core/types.h"

namespace fastmnist {
namespace {

enum class Output { kFloats, kCodes, kSaturate };

inline bool saturation_is_enough(const LinearArgs& args) {
  return args.y_bounded && args.y_quantizer.zero_point == 0 && args.clamp.lo <= 0.0f &&
         args.clamp.hi == __builtin_inff();
}

// Codes by the kernel that saturates where that is enough, else by the one that clamps.
template <void (*SATURATE)(const LinearArgs&), void (*CLAMP)(const LinearArgs&)>
void by_saturation(const LinearArgs& args) {
  (saturation_is_enough(args) ? SATURATE : CLAMP)(args);
}

inline const Quantizer& quantizer_of(const LinearArgs& args, std::int64_t row) {
  return args.row_quantizers != nullptr ? args.row_quantizers[row] : args.x_quantizer;
}

// The last 1..3 inputs of a row, without reading past them.
inline std::int32_t load_tail(const std::uint8_t* p, std::int64_t n) {
  std::uint32_t v = 0;
  for (std::int64_t i = 0; i < n; ++i) v |= static_cast<std::uint32_t>(p[i]) << (8 * i);
  return static_cast<std::int32_t>(v);
}

}  // namespace
}  // namespace fastmnist
