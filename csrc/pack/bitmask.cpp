// The bitmask form: which bytes of each dense block are not zero, and those bytes.
#include <algorithm>

#include "kernels/sizes.h"
#include "pack/layouts.h"

namespace fastmnist {
namespace {

struct Layout {
  std::int64_t value_starts, masks, values, bytes;

  Layout(std::int64_t count, std::int64_t inputs, std::int64_t outputs) {
    const std::int64_t panels = panels_of(outputs);
    Pieces pieces(outputs);
    value_starts = pieces.take(panels * 8);
    masks = pieces.take(panels * round_up(inputs, kInputPadding) / kBlockInputs * 8);
    values = pieces.take(count + kValuePadding);
    bytes = pieces.bytes();
  }
};

std::int64_t count(const CanonicalLayer& layer) {
  const std::int64_t all = layer.inputs * layer.outputs;
  return all - std::count(layer.weight, layer.weight + all, std::int8_t{0});
}

std::int64_t bytes(std::int64_t count, std::int64_t inputs, std::int64_t outputs) {
  return Layout(count, inputs, outputs).bytes;
}

std::int64_t read_bytes(std::int64_t count, std::int64_t inputs, std::int64_t outputs) {
  return kDenseLayout.bytes(0, inputs, outputs) / 8 + count;
}

void pack(const CanonicalLayer& layer, std::int64_t count, std::byte* section) {
  const Layout at(count, layer.inputs, layer.outputs);
  begin_section(layer, count, at.bytes, section);
  auto* starts = reinterpret_cast<std::uint64_t*>(section + at.value_starts);
  auto* masks = reinterpret_cast<std::uint64_t*>(section + at.masks);
  auto* values = reinterpret_cast<std::int8_t*>(section + at.values);
  const std::int64_t blocks = round_up(layer.inputs, kInputPadding) / kBlockInputs;
  std::uint64_t next = 0;
  for (std::int64_t p = 0; p < panels_of(layer.outputs); ++p) {
    starts[p] = next;
    const std::int64_t outputs = std::min(kPanelOutputs, layer.outputs - p * kPanelOutputs);
    for (std::int64_t b = 0; b < blocks; ++b) {
      std::uint64_t mask = 0;
      const std::int64_t inputs =
          std::clamp<std::int64_t>(layer.inputs - b * kBlockInputs, 0, kBlockInputs);
      for (std::int64_t j = 0; j < outputs; ++j) {
        const std::int8_t* w =
            layer.weight + (p * kPanelOutputs + j) * layer.inputs + b * kBlockInputs;
        for (std::int64_t i = 0; i < inputs; ++i) {  // branch-free: zeros are random
          const std::uint64_t there = w[i] != 0 ? 1 : 0;
          mask |= there << (j * kBlockInputs + i);
          values[next] = w[i];  // at the very end into the padding
          next += there;
        }
      }
      *masks++ = mask;
    }
  }
  values[next] = 0;
}

Weights view(const std::byte* section, std::int64_t count, std::int64_t inputs,
             std::int64_t outputs) {
  const Layout at(count, inputs, outputs);
  Weights w = begin_view(section, inputs, outputs);
  w.bitmask = {reinterpret_cast<const std::uint64_t*>(section + at.value_starts),
               reinterpret_cast<const std::uint64_t*>(section + at.masks),
               reinterpret_cast<const std::int8_t*>(section + at.values), count};
  return w;
}

}  // namespace

const WeightLayout kBitmaskLayout = {
    WeightForm::kBitmask, kMostSparsePercent, kAnyBytes, count, bytes, read_bytes, pack, view};

}  // namespace fastmnist
