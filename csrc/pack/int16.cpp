// The int16 form: panels of 16 outputs in pairs of inputs, 16 bits a weight.
#include "kernels/sizes.h"
#include "pack/layouts.h"

namespace fastmnist {
namespace {

std::int64_t stride_of(std::int64_t inputs) {
  return round_up(inputs, kInputPadding) * kPanelOutputs * 2;
}

std::int64_t panels_bytes(std::int64_t, std::int64_t inputs, std::int64_t outputs) {
  return panels_of(outputs) * stride_of(inputs);
}

std::int64_t bytes(std::int64_t, std::int64_t inputs, std::int64_t outputs) {
  Pieces pieces(outputs);
  pieces.take(panels_bytes(0, inputs, outputs));
  return pieces.bytes();
}

void pack(const CanonicalLayer& layer, std::int64_t, std::byte* section) {
  begin_section(layer, 0, bytes(0, layer.inputs, layer.outputs), section);
  auto* const weights = reinterpret_cast<std::int16_t*>(section + Pieces(layer.outputs).bytes());
  const std::int64_t panel = stride_of(layer.inputs) / 2;
  for (std::int64_t n = 0; n < layer.outputs; ++n) {
    std::int16_t* const to = weights + n / kPanelOutputs * panel + n % kPanelOutputs * 2;
    for (std::int64_t k = 0; k < layer.inputs; ++k)
      to[k / 2 * 2 * kPanelOutputs + k % 2] = layer.weight[n * layer.inputs + k];
  }
}

Weights view(const std::byte* section, std::int64_t, std::int64_t inputs, std::int64_t outputs) {
  Weights w = begin_view(section, inputs, outputs);
  w.dense = {section + Pieces(outputs).bytes(), stride_of(inputs)};
  return w;
}

// Where weights come from far away, twice as many take twice as long.
constexpr std::int64_t kMostBytes = 8 * 1024 * 1024;

}  // namespace

const WeightLayout kInt16Layout = {WeightForm::kInt16, kAnyPercent, kMostBytes, nullptr, bytes,
                                   panels_bytes,       pack,        view};

}  // namespace fastmnist
