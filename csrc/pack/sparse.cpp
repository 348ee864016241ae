#include "pack/sparse.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "kernels/sizes.h"

namespace fastmnist {
namespace {

// A form is tried where it could win: not before a quarter of the weights is zero. A bitmask saves
// memory traffic; picks must be well below the dense bytes, as each of their blocks costs more than
// a dense one.
constexpr std::int64_t kMostValuesPercent = 75;  // of the weights
constexpr std::int64_t kBitmaskPercent = 80;     // of dense bytes
constexpr std::int64_t kPicksPercent = 80;

struct SectionHeader {
  std::uint64_t values;
  std::uint64_t pick_blocks;
  std::uint32_t bitmask;
  std::uint32_t picks;
  std::uint64_t reserved[5];
};
static_assert(sizeof(SectionHeader) == 64);

// Where the pieces of a section begin.
struct Layout {
  std::int64_t epilogues = sizeof(SectionHeader);
  std::int64_t value_starts, masks, values;
  std::int64_t pick_starts, window_starts, pick_blocks;
  std::int64_t bytes;

  Layout(const SparseSizes& sizes, std::int64_t inputs, std::int64_t outputs) {
    const std::int64_t panels = panels_of(outputs);
    const std::int64_t padded = round_up(inputs, kInputPadding);
    std::int64_t at = epilogues + panels * static_cast<std::int64_t>(sizeof(PanelEpilogue));
    const auto take = [&at](std::int64_t size) {
      const std::int64_t start = at;
      at += aligned(size);
      return start;
    };
    const std::int64_t masked = sizes.bitmask ? 1 : 0;
    value_starts = take(masked * panels * 8);
    masks = take(masked * panels * padded / kBlockInputs * 8);
    values = take(masked * (sizes.values + kValuePadding));
    const std::int64_t picked = sizes.picks ? 1 : 0;
    pick_starts = take(picked * (panels + 1) * 8);
    window_starts = take(picked * sizes.pick_blocks * 2);
    pick_blocks = take(picked * sizes.pick_blocks * kPickBlockBytes);
    bytes = at;
  }
};

std::int64_t count_values(const CanonicalLayer& layer) {
  const std::int64_t all = layer.inputs * layer.outputs;
  return all - std::count(layer.weight, layer.weight + all, std::int8_t{0});
}

// The inputs of each of a panel's outputs whose weights are not zero, in order.
using PanelInputs = std::vector<std::int32_t>[kPanelOutputs];

void find_inputs(const CanonicalLayer& layer, std::int64_t panel, PanelInputs& inputs) {
  for (std::int64_t j = 0; j < kPanelOutputs; ++j) {
    const std::int64_t n = panel * kPanelOutputs + j;
    inputs[j].resize(n < layer.outputs ? static_cast<std::size_t>(layer.inputs) : 0);
    if (n >= layer.outputs) continue;
    const std::int8_t* w = layer.weight + n * layer.inputs;
    std::size_t count = 0;
    for (std::int64_t k = 0; k < layer.inputs; ++k) {  // branch-free: zeros are random
      inputs[j][count] = static_cast<std::int32_t>(k);
      count += w[k] != 0 ? 1 : 0;
    }
    inputs[j].resize(count);
  }
}

// Goes through a panel's picks, block by block: block(window), then slot(output, slot, input).
template <typename Block, typename Slot>
void for_picks(const PanelInputs& inputs, std::int64_t layer_inputs, Block block, Slot slot) {
  const std::int64_t last_window = std::max<std::int64_t>(0, layer_inputs - kWindowInputs);
  std::size_t next[kPanelOutputs] = {};
  for (;;) {
    std::int64_t window = layer_inputs;
    for (std::int64_t j = 0; j < kPanelOutputs; ++j)
      if (next[j] < inputs[j].size()) window = std::min<std::int64_t>(window, inputs[j][next[j]]);
    if (window == layer_inputs) return;  // nothing is left
    window = std::min(window, last_window);
    block(window);
    for (std::int64_t j = 0; j < kPanelOutputs; ++j)
      for (std::int64_t i = 0; i < kBlockInputs && next[j] < inputs[j].size() &&
                               inputs[j][next[j]] < window + kWindowInputs;
           ++i)
        slot(j, i, inputs[j][next[j]++]);
  }
}

void pack_bitmask(const CanonicalLayer& layer, const PackedDense& dense, std::uint64_t* starts,
                  std::uint64_t* masks, std::byte* values) {
  std::uint64_t at = 0;
  for (std::int64_t p = 0; p < panels_of(layer.outputs); ++p) {
    starts[p] = at;
    const std::byte* panel = dense.panels + p * dense.panel_stride;
    for (std::int64_t b = 0; b < dense.padded_inputs / kBlockInputs; ++b) {
      std::uint64_t mask = 0;
      for (std::int64_t i = 0; i < kBlockBytes; ++i) {
        const std::byte w = panel[b * kBlockBytes + i];
        const std::uint64_t there = w != std::byte{0} ? 1 : 0;
        mask |= there << i;
        values[at] = w;  // at the very end into the padding
        at += there;
      }
      *masks++ = mask;
    }
  }
}

void pack_picks(const CanonicalLayer& layer, std::uint64_t* starts, std::uint16_t* windows,
                std::byte* blocks) {
  std::int64_t count = 0;
  PanelInputs inputs;
  for (std::int64_t p = 0; p < panels_of(layer.outputs); ++p) {
    starts[p] = static_cast<std::uint64_t>(count);
    find_inputs(layer, p, inputs);
    std::int64_t window = 0;
    std::byte* block = nullptr;
    for_picks(
        inputs, layer.inputs,
        [&](std::int64_t first) {
          window = first;
          windows[count] = static_cast<std::uint16_t>(first);
          block = blocks + count++ * kPickBlockBytes;
        },
        [&](std::int64_t j, std::int64_t i, std::int64_t k) {
          const std::int64_t at = j * kBlockInputs + i;
          block[at] = static_cast<std::byte>(k - window);
          block[kBlockBytes + at] =
              static_cast<std::byte>(layer.weight[(p * kPanelOutputs + j) * layer.inputs + k]);
        });
  }
  starts[panels_of(layer.outputs)] = static_cast<std::uint64_t>(count);
}

}  // namespace

SparseSizes measure_forms(const CanonicalLayer& layer, bool bitmask, bool picks) {
  SparseSizes sizes;
  sizes.bitmask = bitmask;
  sizes.picks = picks;
  if (bitmask) sizes.values = count_values(layer);
  PanelInputs inputs;
  for (std::int64_t p = 0; picks && p < panels_of(layer.outputs); ++p) {
    find_inputs(layer, p, inputs);
    for_picks(
        inputs, layer.inputs, [&](std::int64_t) { ++sizes.pick_blocks; },
        [](std::int64_t, std::int64_t, std::int64_t) {});
  }
  return sizes;
}

SparseSizes measure_sparse(const CanonicalLayer& layer) {
  const std::int64_t values = count_values(layer);
  if (values * 100 > layer.inputs * layer.outputs * kMostValuesPercent) return {};
  const std::int64_t dense = packed_dense_bytes(layer.inputs, layer.outputs);
  const auto below = [dense](std::int64_t bytes, std::int64_t percent) {
    return bytes * 100 < dense * percent;
  };
  const bool bitmask = below(dense / 8 + values, kBitmaskPercent);
  // Full blocks hold 64 weights: no need to count where not even those would do.
  const bool picks = below(values / kBlockBytes * kPickBlockBytes, kPicksPercent);
  const SparseSizes sizes = measure_forms(layer, bitmask, picks);
  return below(sizes.pick_blocks * kPickBlockBytes, kPicksPercent)
             ? sizes
             : SparseSizes{sizes.values, 0, bitmask, false};
}

std::int64_t packed_sparse_bytes(const SparseSizes& sizes, std::int64_t inputs,
                                 std::int64_t outputs) {
  return sizes.any() ? Layout(sizes, inputs, outputs).bytes : 0;
}

void pack_sparse(const CanonicalLayer& layer, const SparseSizes& sizes, const PackedDense& dense,
                 std::byte* section) {
  const Layout at(sizes, layer.inputs, layer.outputs);
  std::memset(section, 0, static_cast<std::size_t>(at.bytes));
  SectionHeader header{};
  header.values = static_cast<std::uint64_t>(sizes.values);
  header.pick_blocks = static_cast<std::uint64_t>(sizes.pick_blocks);
  header.bitmask = sizes.bitmask ? 1 : 0;
  header.picks = sizes.picks ? 1 : 0;
  std::memcpy(section, &header, sizeof header);
  for (std::int64_t p = 0; p < panels_of(layer.outputs); ++p)
    std::memcpy(section + at.epilogues + p * static_cast<std::int64_t>(sizeof(PanelEpilogue)),
                dense.epilogues + p * dense.epilogue_stride, sizeof(PanelEpilogue));
  if (sizes.bitmask)
    pack_bitmask(layer, dense, reinterpret_cast<std::uint64_t*>(section + at.value_starts),
                 reinterpret_cast<std::uint64_t*>(section + at.masks), section + at.values);
  if (sizes.picks)
    pack_picks(layer, reinterpret_cast<std::uint64_t*>(section + at.pick_starts),
               reinterpret_cast<std::uint16_t*>(section + at.window_starts),
               section + at.pick_blocks);
}

SparseSizes read_sparse_sizes(std::span<const std::byte> section, std::int64_t inputs,
                              std::int64_t outputs) {
  SparseSizes sizes;
  if (section.size() < sizeof(SectionHeader)) return {};
  const auto& header = *reinterpret_cast<const SectionHeader*>(section.data());
  // No form is larger than all weights; this keeps what follows far inside int64.
  const std::uint64_t most = static_cast<std::uint64_t>(section.size());
  if (header.bitmask > 1 || header.picks > 1 || header.values > most || header.pick_blocks > most)
    return {};
  sizes.values = static_cast<std::int64_t>(header.values);
  sizes.pick_blocks = static_cast<std::int64_t>(header.pick_blocks);
  sizes.bitmask = header.bitmask != 0;
  sizes.picks = header.picks != 0;
  const bool fits =
      packed_sparse_bytes(sizes, inputs, outputs) == static_cast<std::int64_t>(section.size());
  return fits ? sizes : SparseSizes{};
}

PackedSparse view_sparse(const std::byte* section, const SparseSizes& sizes, std::int64_t inputs,
                         std::int64_t outputs) {
  PackedSparse view{};
  if (!sizes.any()) return view;
  const Layout at(sizes, inputs, outputs);
  if (sizes.bitmask) {
    view.value_starts = reinterpret_cast<const std::uint64_t*>(section + at.value_starts);
    view.masks = reinterpret_cast<const std::uint64_t*>(section + at.masks);
    view.values = reinterpret_cast<const std::int8_t*>(section + at.values);
    view.value_count = sizes.values;
  }
  if (sizes.picks) {
    view.pick_starts = reinterpret_cast<const std::uint64_t*>(section + at.pick_starts);
    view.window_starts = reinterpret_cast<const std::uint16_t*>(section + at.window_starts);
    view.pick_blocks = section + at.pick_blocks;
    view.pick_block_count = sizes.pick_blocks;
  }
  return view;
}

PackedDense with_sparse_epilogues(PackedDense dense, const std::byte* section) {
  dense.epilogues = section + sizeof(SectionHeader);
  dense.epilogue_stride = sizeof(PanelEpilogue);
  return dense;
}

}  // namespace fastmnist
