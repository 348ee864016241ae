#include "pack/dense.h"

#include <cstring>

namespace fastmnist {
namespace {

std::int64_t round_up(std::int64_t value, std::int64_t to) { return (value + to - 1) / to * to; }

std::int64_t panel_count(std::int64_t outputs) {
  return round_up(outputs, kPanelOutputs) / kPanelOutputs;
}

}  // namespace

PackedDense view_dense(const std::byte* panels, std::int64_t inputs, std::int64_t outputs) {
  const std::int64_t padded = round_up(inputs, kInputPadding);
  return {panels, inputs, outputs, padded,
          padded * kPanelOutputs + static_cast<std::int64_t>(sizeof(PanelEpilogue))};
}

std::int64_t packed_dense_bytes(std::int64_t inputs, std::int64_t outputs) {
  return view_dense(nullptr, inputs, outputs).panel_stride * panel_count(outputs);
}

PackedDense pack_dense(const CanonicalLayer& layer, std::byte* panels) {
  const PackedDense view = view_dense(panels, layer.inputs, layer.outputs);
  std::memset(panels, 0, static_cast<std::size_t>(packed_dense_bytes(layer.inputs, layer.outputs)));
  for (std::int64_t n = 0; n < layer.outputs; ++n) {
    const std::int64_t j = n % kPanelOutputs;
    std::byte* panel = panels + n / kPanelOutputs * view.panel_stride;
    const std::int8_t* w = layer.weight + n * layer.inputs;
    std::int32_t sum = 0;
    for (std::int64_t k = 0; k < layer.inputs; ++k) {
      const std::int64_t at =
          k / kBlockInputs * kBlockBytes + j * kBlockInputs + k % kBlockInputs;
      panel[at] = static_cast<std::byte>(w[k]);
      sum += w[k];
    }
    auto& constants =
        *reinterpret_cast<PanelEpilogue*>(panel + view.padded_inputs * kPanelOutputs);
    constants.bias[j] = layer.bias != nullptr ? layer.bias[n] : 0.0f;
    constants.scale[j] = layer.weight_scale[n];
    constants.weight_sum[j] = sum;
  }
  return view;
}

}  // namespace fastmnist
