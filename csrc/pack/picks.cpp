// The forms whose blocks pick their inputs from windows: "picks", "windows32", "windows64".
#include <algorithm>
#include <vector>

#include "kernels/sizes.h"
#include "pack/layouts.h"

namespace fastmnist {
namespace {

struct Layout {
  std::int64_t starts, window_starts, blocks, bytes;

  Layout(const PickShape& shape, std::int64_t count, std::int64_t outputs) {
    Pieces pieces(outputs);
    starts = pieces.take((divide_up(outputs, shape.outputs) + 1) * 8);
    window_starts = pieces.take(count * 2);
    blocks = pieces.take(count * shape.block_bytes);
    bytes = pieces.bytes();
  }
};

// The inputs of each of a panel's outputs whose weights are not zero, in order.
using PanelInputs = std::vector<std::vector<std::int32_t>>;

void find_inputs(const CanonicalLayer& layer, std::int64_t first, PanelInputs& inputs) {
  for (std::size_t j = 0; j < inputs.size(); ++j) {
    const std::int64_t n = first + static_cast<std::int64_t>(j);
    inputs[j].resize(n < layer.outputs ? static_cast<std::size_t>(layer.inputs) : 0);
    if (n >= layer.outputs) continue;
    const std::int8_t* w = layer.weight + n * layer.inputs;
    std::size_t found = 0;
    for (std::int64_t k = 0; k < layer.inputs; ++k) {  // branch-free: zeros are random
      inputs[j][found] = static_cast<std::int32_t>(k);
      found += w[k] != 0 ? 1 : 0;
    }
    inputs[j].resize(found);
  }
}

// Goes through a panel's picks, block by block: block(window), then slot(output, slot, input).
template <typename Block, typename Slot>
void for_picks(const PickShape& shape, const PanelInputs& inputs, std::int64_t layer_inputs,
               Block block, Slot slot) {
  const std::int64_t last_window = std::max<std::int64_t>(0, layer_inputs - shape.window);
  std::vector<std::size_t> next(inputs.size());
  for (;;) {
    std::int64_t window = layer_inputs;
    for (std::size_t j = 0; j < inputs.size(); ++j)
      if (next[j] < inputs[j].size()) window = std::min<std::int64_t>(window, inputs[j][next[j]]);
    if (window == layer_inputs) return;  // nothing is left
    window = std::min(window, last_window);
    block(window);
    for (std::size_t j = 0; j < inputs.size(); ++j)
      for (std::int64_t i = 0; i < kBlockInputs && next[j] < inputs[j].size() &&
                               inputs[j][next[j]] < window + shape.window;
           ++i)
        slot(static_cast<std::int64_t>(j), i, inputs[j][next[j]++]);
  }
}

template <const PickShape& SHAPE>
std::int64_t count(const CanonicalLayer& layer) {
  PanelInputs inputs(static_cast<std::size_t>(SHAPE.outputs));
  std::int64_t blocks = 0;
  for (std::int64_t first = 0; first < layer.outputs; first += SHAPE.outputs) {
    find_inputs(layer, first, inputs);
    for_picks(
        SHAPE, inputs, layer.inputs, [&](std::int64_t) { ++blocks; },
        [](std::int64_t, std::int64_t, std::int64_t) {});
  }
  return blocks;
}

template <const PickShape& SHAPE>
std::int64_t bytes(std::int64_t count, std::int64_t, std::int64_t outputs) {
  return Layout(SHAPE, count, outputs).bytes;
}

template <const PickShape& SHAPE>
std::int64_t read_bytes(std::int64_t count, std::int64_t, std::int64_t) {
  return count * SHAPE.block_bytes;
}

template <const PickShape& SHAPE>
void pack(const CanonicalLayer& layer, std::int64_t count, std::byte* section) {
  const Layout at(SHAPE, count, layer.outputs);
  begin_section(layer, count, at.bytes, section);
  auto* starts = reinterpret_cast<std::uint64_t*>(section + at.starts);
  auto* windows = reinterpret_cast<std::uint16_t*>(section + at.window_starts);
  std::byte* const blocks = section + at.blocks;
  std::int64_t made = 0;
  PanelInputs inputs(static_cast<std::size_t>(SHAPE.outputs));
  for (std::int64_t first = 0; first < layer.outputs; first += SHAPE.outputs) {
    *starts++ = static_cast<std::uint64_t>(made);
    find_inputs(layer, first, inputs);
    std::int64_t window = 0;
    std::byte* block = nullptr;
    for_picks(
        SHAPE, inputs, layer.inputs,
        [&](std::int64_t start) {
          window = start;
          windows[made] = static_cast<std::uint16_t>(start);
          block = blocks + made++ * SHAPE.block_bytes;
        },
        [&](std::int64_t j, std::int64_t i, std::int64_t k) {
          const std::int64_t slot = j * kBlockInputs + i;
          block[slot] = static_cast<std::byte>(k - window + SHAPE.first_pick);
          block[SHAPE.picks + slot] =
              static_cast<std::byte>(layer.weight[(first + j) * layer.inputs + k]);
        });
  }
  *starts = static_cast<std::uint64_t>(made);
}

template <const PickShape& SHAPE>
Weights view(const std::byte* section, std::int64_t count, std::int64_t inputs,
             std::int64_t outputs) {
  const Layout at(SHAPE, count, outputs);
  Weights w = begin_view(section, inputs, outputs);
  w.picks = {reinterpret_cast<const std::uint64_t*>(section + at.starts),
             reinterpret_cast<const std::uint16_t*>(section + at.window_starts),
             section + at.blocks, count};
  return w;
}

template <const PickShape& SHAPE>
constexpr WeightLayout layout(WeightForm form) {
  return {form,         kMostSparsePercent, kAnyBytes,   count<SHAPE>,
          bytes<SHAPE>, read_bytes<SHAPE>,  pack<SHAPE>, view<SHAPE>};
}

}  // namespace

const WeightLayout kPicksLayout = layout<kPickShape>(WeightForm::kPicks);
const WeightLayout kWindowsLayout = layout<kWindowShape>(WeightForm::kWindows);
const WeightLayout kWideWindowsLayout = layout<kWideWindowShape>(WeightForm::kWideWindows);

}  // namespace fastmnist
