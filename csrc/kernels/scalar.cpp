// Portable kernels: what runs where no vector kernel is built, and the first row of the ladder.
// The loops over 16 outputs are short and constant, so compilers vectorize them for the baseline.
#include <bit>
#include <cmath>

#include "core/arithmetic.h"
#include "kernels/reference.h"
#include "kernels/tables.h"

namespace fastmnist {
namespace {

const PanelEpilogue& epilogue_of(const Weights& w, std::int64_t panel) {
  return *reinterpret_cast<const PanelEpilogue*>(w.epilogues + panel * w.epilogue_stride);
}

// Sums of products of one row with the 16 outputs of one panel.
using Sums = std::int32_t[kPanelOutputs];

void accumulate_dense(const LinearArgs& args, const std::uint8_t* x, std::int64_t panel,
                      Sums& acc) {
  const Weights& w = args.w;
  const auto* weights =
      reinterpret_cast<const std::int8_t*>(w.dense.panels + panel * w.dense.stride);
  for (std::int32_t& a : acc) a = 0;
  for (std::int64_t k = 0; k < w.inputs; ++k) {
    const std::int8_t* block = weights + (k / kBlockInputs) * kBlockBytes + k % kBlockInputs;
    const std::int32_t xk = x[k];
    for (std::int64_t j = 0; j < kPanelOutputs; ++j) acc[j] += xk * block[kBlockInputs * j];
  }
}

// From non-zero to non-zero. (Values are bounded: packed bytes may come from anywhere.)
void accumulate_bitmask(const LinearArgs& args, const std::uint8_t* x, std::int64_t panel,
                        Sums& acc) {
  const BitmaskPanels& sparse = args.w.bitmask;
  const std::int64_t blocks = args.w.padded_inputs / kBlockInputs;
  const std::uint64_t* masks = sparse.masks + panel * blocks;
  auto at = static_cast<std::int64_t>(sparse.value_starts[panel]);
  if (at < 0) at = sparse.value_count;
  for (std::int32_t& a : acc) a = 0;
  for (std::int64_t k = 0; k < args.w.inputs; k += kBlockInputs)
    for (std::uint64_t mask = masks[k / kBlockInputs]; mask != 0; mask &= mask - 1) {
      const int i = std::countr_zero(mask);
      if (at >= sparse.value_count || k + i % kBlockInputs >= args.w.inputs) return;
      acc[i / kBlockInputs] += std::int32_t{x[k + i % kBlockInputs]} * sparse.values[at++];
    }
}

void accumulate_nibbles(const LinearArgs& args, const std::uint8_t* x, std::int64_t panel,
                        Sums& acc) {
  const NibblePanels& nibbles = args.w.nibbles;
  const std::byte* indices = nibbles.panels + panel * nibbles.stride;
  for (std::int32_t& a : acc) a = 0;
  for (std::int64_t k = 0; k < args.w.inputs; ++k) {
    const std::int64_t quad = k / kBlockInputs;
    const std::byte* block = indices + quad / 2 * kBlockBytes + k % kBlockInputs;
    const int shift = quad % 2 != 0 ? 4 : 0;
    const std::int32_t xk = x[k];
    for (std::int64_t j = 0; j < kPanelOutputs; ++j)
      acc[j] += xk * nibbles.table[static_cast<unsigned>(block[kBlockInputs * j]) >> shift & 15u];
  }
}

using Accumulate = void (*)(const LinearArgs&, const std::uint8_t*, std::int64_t, Sums&);

template <Accumulate ACCUMULATE, typename Store>
void linear(const LinearArgs& args, Store store) {
  const Weights& w = args.w;
  for (std::int64_t first = 0, panel = 0; first < w.outputs; first += kPanelOutputs, ++panel) {
    const PanelEpilogue& constants = epilogue_of(w, panel);
    const std::int64_t count =
        w.outputs - first < kPanelOutputs ? w.outputs - first : kPanelOutputs;
    for (std::int64_t m = 0; m < args.rows; ++m) {
      const Quantizer& q =
          args.row_quantizers != nullptr ? args.row_quantizers[m] : args.x_quantizer;
      Sums acc;
      ACCUMULATE(args, args.x + m * args.x_stride, panel, acc);
      for (std::int64_t j = 0; j < count; ++j)
        store(m * args.y_stride + first + j,
              epilogue(acc[j], constants.weight_sum[j], constants.scale[j], constants.bias[j], q,
                       args.clamp));
    }
  }
}

template <Accumulate ACCUMULATE>
void linear_f32(const LinearArgs& args) {
  float* out = static_cast<float*>(args.y);
  linear<ACCUMULATE>(args, [out](std::int64_t i, float y) { out[i] = y; });
}

template <Accumulate ACCUMULATE>
void linear_u8(const LinearArgs& args) {
  std::uint8_t* out = static_cast<std::uint8_t*>(args.y);
  const Quantizer q = args.y_quantizer;
  linear<ACCUMULATE>(args, [out, q](std::int64_t i, float y) { out[i] = quantize_one(y, q); });
}

void float_linear(const FloatLinearArgs& args) {
  const Clamp bounds{args.lo, args.hi};
  for (std::int64_t first = 0; first < args.outputs; first += kPanelOutputs) {
    const float* panel = args.panels + first * args.inputs;
    const std::int64_t count =
        args.outputs - first < kPanelOutputs ? args.outputs - first : kPanelOutputs;
    for (std::int64_t m = 0; m < args.rows; ++m) {
      const float* x = args.x + m * args.x_stride;
      float acc[kPanelOutputs] = {};
      for (std::int64_t k = 0; k < args.inputs; ++k)
        for (std::int64_t j = 0; j < kPanelOutputs; ++j)
          acc[j] = std::fmaf(x[k], panel[k * kPanelOutputs + j], acc[j]);
      for (std::int64_t j = 0; j < count; ++j)
        args.y[m * args.y_stride + first + j] = clamp(acc[j] + args.bias[first + j], bounds);
    }
  }
}

bool quantize(const float* x, std::int64_t n, Quantizer quantizer, std::uint8_t* q) {
  return reference::quantize(x, n, quantizer, q);
}

void dequantize(const std::uint8_t* q, std::int64_t n, Quantizer quantizer, float* x) {
  reference::dequantize(q, n, quantizer, x);
}

constexpr RowKernels kRows = {quantize, reference::quantize_affine, dequantize,
                              reference::row_range};

constexpr LinearKernel kLinears[] = {
    {"scalar", "", 1, 1, WeightForm::kDense, kFewestRows | kFewRows | kManyRows, nullptr, nullptr,
     nullptr, linear_f32<accumulate_dense>, linear_u8<accumulate_dense>},
    {"scalar", "", 1, 1, WeightForm::kNibbles, kFewestRows | kFewRows | kManyRows, nullptr, nullptr,
     nullptr, linear_f32<accumulate_nibbles>, linear_u8<accumulate_nibbles>},
    {"scalar", "", 1, 1, WeightForm::kBitmask, kWhereMeasured, nullptr, nullptr, nullptr,
     linear_f32<accumulate_bitmask>, linear_u8<accumulate_bitmask>}};

constexpr FloatLinearKernel kFloatLinear = {"scalar", float_linear};

}  // namespace

extern const PeakProbe kScalarPeak;

extern const KernelPart kScalarPart;
const KernelPart kScalarPart = {
    "scalar", 0, &kRows, &kScalarPeak, kLinears, 3, &reference::kFloats, &kFloatLinear};

}  // namespace fastmnist
