// The dense form: panels of 16 outputs in blocks of 4 inputs.
#include <cstring>

#include "kernels/dense_lead.h"
#include "kernels/sizes.h"
#include "pack/layouts.h"

namespace fastmnist {
namespace {

std::int64_t block_bytes(std::int64_t inputs) {
  return round_up(inputs, kInputPadding) * kPanelOutputs;
}

std::int64_t stride_of(std::int64_t inputs) {
  return lead_of(inputs) + block_bytes(inputs) + static_cast<std::int64_t>(sizeof(PanelEpilogue));
}

// Where weight [n][k] lies, in bytes from the first panel.
std::int64_t position(std::int64_t stride, std::int64_t n, std::int64_t k) {
  return n / kPanelOutputs * stride + k / kBlockInputs * kBlockBytes +
         n % kPanelOutputs * kBlockInputs + k % kBlockInputs;
}

std::int64_t bytes(std::int64_t, std::int64_t inputs, std::int64_t outputs) {
  return stride_of(inputs) * panels_of(outputs);
}

Weights view(const std::byte* section, std::int64_t, std::int64_t inputs, std::int64_t outputs) {
  Weights w{};
  w.inputs = inputs;
  w.outputs = outputs;
  w.padded_inputs = round_up(inputs, kInputPadding);
  w.dense = {section + lead_of(inputs), stride_of(inputs)};
  w.epilogues = w.dense.panels + block_bytes(inputs);
  w.epilogue_stride = w.dense.stride;
  return w;
}

void pack(const CanonicalLayer& layer, std::int64_t, std::byte* section) {
  const std::int64_t stride = stride_of(layer.inputs);
  std::memset(section, 0, static_cast<std::size_t>(bytes(0, layer.inputs, layer.outputs)));
  std::byte* const panels = section + lead_of(layer.inputs);
  for (std::int64_t n = 0; n < layer.outputs; ++n) {
    const std::int8_t* w = layer.weight + n * layer.inputs;
    for (std::int64_t k = 0; k < layer.inputs; ++k)
      panels[position(stride, n, k)] = static_cast<std::byte>(w[k]);
  }
  for (std::int64_t p = 0; p < panels_of(layer.outputs); ++p)
    write_epilogue(
        layer, p,
        *reinterpret_cast<PanelEpilogue*>(panels + p * stride + block_bytes(layer.inputs)));
}

}  // namespace

void unpack_dense(const Weights& packed, std::int8_t* weight) {
  for (std::int64_t n = 0; n < packed.outputs; ++n)
    for (std::int64_t k = 0; k < packed.inputs; ++k)
      weight[n * packed.inputs + k] =
          static_cast<std::int8_t>(packed.dense.panels[position(packed.dense.stride, n, k)]);
}

const WeightLayout kDenseLayout = {
    WeightForm::kDense, kAnyPercent, kAnyBytes, nullptr, bytes, bytes, pack, view};

}  // namespace fastmnist
