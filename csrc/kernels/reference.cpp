#include "kernels/reference.h"

#include <cmath>

#include "core/arithmetic.h"

namespace fastmnist::reference {

namespace {

float output(const Linear& layer, const std::uint8_t* row, std::int64_t n,
             const Quantizer& x_quantizer) {
  const std::int8_t* w = layer.weight + n * layer.inputs;
  std::int32_t acc = 0;
  std::int32_t weight_sum = 0;
  for (std::int64_t k = 0; k < layer.inputs; ++k) {
    acc += static_cast<std::int32_t>(row[k]) * static_cast<std::int32_t>(w[k]);
    weight_sum += w[k];
  }
  const float bias = layer.bias != nullptr ? layer.bias[n] : 0.0f;
  return epilogue(acc, weight_sum, layer.weight_scale[n], bias, x_quantizer, layer.clamp);
}

}  // namespace

void linear_f32(const Linear& layer, const std::uint8_t* x, std::int64_t rows,
                const Quantizer* row_quantizers, float* y) {
  for (std::int64_t m = 0; m < rows; ++m)
    for (std::int64_t n = 0; n < layer.outputs; ++n)
      y[m * layer.outputs + n] = output(layer, x + m * layer.inputs, n, row_quantizers[m]);
}

void linear_u8(const Linear& layer, const std::uint8_t* x, std::int64_t rows,
               const Quantizer* row_quantizers, const Quantizer& y_quantizer, std::uint8_t* y) {
  for (std::int64_t m = 0; m < rows; ++m)
    for (std::int64_t n = 0; n < layer.outputs; ++n)
      y[m * layer.outputs + n] =
          quantize_one(output(layer, x + m * layer.inputs, n, row_quantizers[m]), y_quantizer);
}

void float_linear(const FloatLinear& layer, const float* x, std::int64_t rows, float* y) {
  for (std::int64_t m = 0; m < rows; ++m)
    for (std::int64_t n = 0; n < layer.outputs; ++n) {
      const float* row = x + m * layer.inputs;
      const float* w = layer.weight + n * layer.inputs;
      float acc = 0.0f;
      for (std::int64_t k = 0; k < layer.inputs; ++k) acc = std::fmaf(row[k], w[k], acc);
      const float bias = layer.bias != nullptr ? layer.bias[n] : 0.0f;
      y[m * layer.outputs + n] = clamp(acc + bias, layer.clamp);
    }
}

bool quantize(const float* x, std::int64_t n, const Quantizer& quantizer, std::uint8_t* q) {
  bool any_nan = false;
  for (std::int64_t i = 0; i < n; ++i) {
    any_nan |= std::isnan(x[i]);
    q[i] = quantize_one(x[i], quantizer);
  }
  return any_nan;
}

bool quantize_affine(const float* x, std::int64_t n, const float* multiplier, const float* offset,
                     std::uint8_t* q) {
  bool any_nan = false;
  for (std::int64_t i = 0; i < n; ++i) {
    any_nan |= std::isnan(x[i]);
    q[i] = quantize_affine_one(x[i], multiplier[i], offset[i]);
  }
  return any_nan;
}

void dequantize(const std::uint8_t* q, std::int64_t n, const Quantizer& quantizer, float* x) {
  for (std::int64_t i = 0; i < n; ++i) x[i] = dequantize_one(q[i], quantizer);
}

RowRange row_range(const float* x, std::int64_t n) {
  RowRange range{0.0f, 0.0f, true};
  for (std::int64_t i = 0; i < n; ++i) {
    range.lo = x[i] < range.lo ? x[i] : range.lo;
    range.hi = x[i] > range.hi ? x[i] : range.hi;
    range.finite = range.finite && std::isfinite(x[i]);
  }
  return range;
}

}  // namespace fastmnist::reference
