#include "pack/dense.h"

#include <cstring>

#include "kernels/sizes.h"

namespace fastmnist {
namespace {

// Layers of so few inputs have no need of a lead: they have other kernels.
constexpr std::int64_t kFewInputs = 128;

// Where weight [n][k] lies, in bytes from the first panel.
std::int64_t position(const PackedDense& view, std::int64_t n, std::int64_t k) {
  return n / kPanelOutputs * view.panel_stride + k / kBlockInputs * kBlockBytes +
         n % kPanelOutputs * kBlockInputs + k % kBlockInputs;
}

std::int64_t epilogue_position(const PackedDense& view, std::int64_t n) {
  return n / kPanelOutputs * view.panel_stride + view.padded_inputs * kPanelOutputs;
}

// Rows of 16 (modulo 64) inputs begin at four places of a line, rows of 32 at two; and the padding
// at their end is as long as kernels move them.
std::int64_t lead_of(std::int64_t inputs) {
  const std::int64_t left = inputs % kInputPadding;
  return inputs > kFewInputs && (left == 16 || left == 32) ? (kInputPadding - left) * kPanelOutputs
                                                           : 0;
}

}  // namespace

PackedDense view_dense(const std::byte* bytes, std::int64_t inputs, std::int64_t outputs) {
  const std::int64_t padded = round_up(inputs, kInputPadding);
  const std::int64_t lead = lead_of(inputs);
  const std::int64_t blocks = padded * kPanelOutputs;
  const std::int64_t stride = lead + blocks + static_cast<std::int64_t>(sizeof(PanelEpilogue));
  const std::byte* panels = bytes != nullptr ? bytes + lead : nullptr;
  const std::byte* epilogues = bytes != nullptr ? panels + blocks : nullptr;
  return {panels, inputs, outputs, padded, stride, lead, epilogues, stride};
}

std::int64_t packed_dense_bytes(std::int64_t inputs, std::int64_t outputs) {
  return view_dense(nullptr, inputs, outputs).panel_stride * panels_of(outputs);
}

PackedDense pack_dense(const CanonicalLayer& layer, std::byte* bytes) {
  const PackedDense view = view_dense(bytes, layer.inputs, layer.outputs);
  std::byte* const panels = bytes + view.lead;
  std::memset(bytes, 0, static_cast<std::size_t>(packed_dense_bytes(layer.inputs, layer.outputs)));
  for (std::int64_t n = 0; n < layer.outputs; ++n) {
    const std::int8_t* w = layer.weight + n * layer.inputs;
    std::int32_t sum = 0;
    for (std::int64_t k = 0; k < layer.inputs; ++k) {
      panels[position(view, n, k)] = static_cast<std::byte>(w[k]);
      sum += w[k];
    }
    auto& constants = *reinterpret_cast<PanelEpilogue*>(panels + epilogue_position(view, n));
    const std::int64_t j = n % kPanelOutputs;
    constants.bias[j] = layer.bias != nullptr ? layer.bias[n] : 0.0f;
    constants.scale[j] = layer.weight_scale[n];
    constants.weight_sum[j] = sum;
  }
  return view;
}

void unpack_dense(const PackedDense& packed, std::int8_t* weight, float* weight_scale,
                  float* bias) {
  for (std::int64_t n = 0; n < packed.outputs; ++n) {
    for (std::int64_t k = 0; k < packed.inputs; ++k)
      weight[n * packed.inputs + k] =
          static_cast<std::int8_t>(packed.panels[position(packed, n, k)]);
    const auto& constants =
        *reinterpret_cast<const PanelEpilogue*>(packed.panels + epilogue_position(packed, n));
    weight_scale[n] = constants.scale[n % kPanelOutputs];
    bias[n] = constants.bias[n % kPanelOutputs];
  }
}

}  // namespace fastmnist
