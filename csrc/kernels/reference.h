// The definition that every kernel is tested against, on canonical (unpacked) weights.
#pragma once

#include <cstdint>

#include "core/export.h"
#include "core/types.h"

namespace fastmnist::reference {

// One linear layer on codes. Row-major throughout, no strides.
struct Linear {
  const std::int8_t* weight;  // [outputs, inputs]
  const float* weight_scale;  // [outputs]
  const float* bias;          // [outputs], or nullptr
  std::int64_t inputs;
  std::int64_t outputs;
  Clamp clamp;
};

FASTMNIST_API void linear_f32(const Linear& layer, const std::uint8_t* x, std::int64_t rows,
                              const Quantizer* row_quantizers, float* y);

// Exactly linear_f32, then quantize.
FASTMNIST_API void linear_u8(const Linear& layer, const std::uint8_t* x, std::int64_t rows,
                             const Quantizer* row_quantizers, const Quantizer& y_quantizer,
                             std::uint8_t* y);

// One linear layer on floats. Row-major throughout, no strides.
struct FloatLinear {
  const float* weight;  // [outputs, inputs]
  const float* bias;    // [outputs], or nullptr: zeros
  std::int64_t inputs;
  std::int64_t outputs;
  Clamp clamp;
};

// One fma chain an output, from +0 and with inputs ascending; then the bias, then the clamp.
FASTMNIST_API void float_linear(const FloatLinear& layer, const float* x, std::int64_t rows,
                                float* y);

FASTMNIST_API bool quantize(const float* x, std::int64_t n, const Quantizer& quantizer,
                            std::uint8_t* q);
FASTMNIST_API bool quantize_affine(const float* x, std::int64_t n, const float* multiplier,
                                   const float* offset, std::uint8_t* q);
FASTMNIST_API void dequantize(const std::uint8_t* q, std::int64_t n, const Quantizer& quantizer,
                              float* x);
FASTMNIST_API RowRange row_range(const float* x, std::int64_t n);

// Rows of floats to floats; what each computes is written in kernels/functions.h.
FASTMNIST_API extern const FloatKernels kFloats;

// Symmetric codes of 2 to 8 bits, one scale an output: weight [outputs, inputs] to codes and
// scales. With 8 bits the largest magnitude has the largest code; with fewer, the scale is the one
// of least squared error (reference_weights.cpp).
FASTMNIST_API void quantize_weights(const float* weight, std::int64_t outputs, std::int64_t inputs,
                                    int bits, std::int8_t* codes, float* scales);

}  // namespace fastmnist::reference
