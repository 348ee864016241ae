// The normative arithmetic, one scalar function per line of the design's table.
//
// Everything that produces numbers is defined here once; reference.cpp and scalar.cpp are loops
// over these functions, packing and bindings call them for scales, and the vector kernels repeat
// them lane by lane and are tested against them at tolerance 0. All arithmetic is IEEE float32,
// round to nearest even; nothing here may be contracted (-ffp-contract=off).
//
// The operand order of every comparison is part of the definition: it decides what NaN and -0
// become, and it is the order of x86's MINPS/MAXPS (`a op b ? a : b`).
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "core/types.h"

namespace fastmnist {

// Round to the nearest integer, ties to even.
inline float rne(float x) { return std::nearbyintf(x); }

// A float that is already an integer or NaN to a code. NaN gives 0: the comparison fails.
inline std::uint8_t saturate(float integer) {
  float v = integer > 0.0f ? integer : 0.0f;
  v = v < 255.0f ? v : 255.0f;
  return static_cast<std::uint8_t>(v);
}

inline std::uint8_t quantize_one(float x, const Quantizer& quantizer) {
  return saturate(rne(x * quantizer.inv_scale) + static_cast<float>(quantizer.zero_point));
}

inline std::uint8_t quantize_affine_one(float x, float multiplier, float offset) {
  const float product = x * multiplier;
  return saturate(rne(product + offset));
}

inline float dequantize_one(std::uint8_t q, const Quantizer& quantizer) {
  return static_cast<float>(q - quantizer.zero_point) * quantizer.scale;
}

inline Quantizer make_quantizer(float scale, std::int32_t zero_point) {
  return {scale, 1.0f / scale, zero_point};
}

// The asymmetric uint8 quantizer that covers [lo, hi] and 0. NaN is not a range.
inline Quantizer quantizer_from_range(float x_lo, float x_hi) {
  const float lo = x_lo < 0.0f ? x_lo : 0.0f;
  const float hi = x_hi > 0.0f ? x_hi : 0.0f;
  const float hi_part = hi / 255.0f;
  const float lo_part = lo / 255.0f;
  const float scale = hi_part - lo_part;
  if (!(scale >= FLT_MIN)) return {1.0f, 1.0f, 0};
  const float inv_scale = 1.0f / scale;
  const float zero_point = rne(-lo * inv_scale);
  return {scale, inv_scale, static_cast<std::int32_t>(saturate(zero_point))};
}

// NaN in a row passes through: the comparisons fail and y is taken.
inline float clamp(float y, const Clamp& bounds) {
  y = bounds.lo > y ? bounds.lo : y;
  return bounds.hi < y ? bounds.hi : y;
}

// From the exact sum of products to the real output.
inline float epilogue(std::int32_t acc, std::int32_t weight_sum, float weight_scale, float bias,
                      const Quantizer& x_quantizer, const Clamp& bounds) {
  // Exact for real weights; unsigned so that foreign bytes wrap as they do in vector registers.
  const auto centered = static_cast<std::int32_t>(
      static_cast<std::uint32_t>(acc) -
      static_cast<std::uint32_t>(weight_sum) * static_cast<std::uint32_t>(x_quantizer.zero_point));
  const float scale = x_quantizer.scale * weight_scale;
  return clamp(std::fmaf(static_cast<float>(centered), scale, bias), bounds);
}

// The largest code of weights of b bits: codes are symmetric, so one of 2^b is never used.
inline float most_code(int bits) { return static_cast<float>((1 << (bits - 1)) - 1); }

// Symmetric weights: the scale that maps the largest magnitude to the largest code.
inline float weight_scale_from_max(float max_magnitude, float most = 127.0f) {
  const float scale = max_magnitude / most;
  return scale == 0.0f ? 1.0f : scale;
}

inline std::int8_t quantize_weight(float w, float scale, float most = 127.0f) {
  float v = rne(w / scale);
  v = v > -most ? v : -most;
  v = v < most ? v : most;
  return static_cast<std::int8_t>(v);
}

}  // namespace fastmnist
