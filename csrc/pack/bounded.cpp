// The bounded form: dense blocks whose pairs of products cannot saturate 16 bits, and the rest.
#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/sizes.h"
#include "pack/layouts.h"

namespace fastmnist {
namespace {

constexpr std::int64_t kMostPercent = 130;  // with its rests, of dense bytes
constexpr std::int64_t kHalfOutputs = kPanelOutputs / 2;
constexpr std::int64_t kHalfBytes = kBlockBytes / 2;

struct Layout {
  std::int64_t panel_bytes, panels, starts, quads, blocks, bytes;

  Layout(std::int64_t count, std::int64_t inputs, std::int64_t outputs) {
    panel_bytes = round_up(inputs, kInputPadding) * kPanelOutputs;
    Pieces pieces(outputs);
    panels = pieces.take(panels_of(outputs) * panel_bytes);
    starts = pieces.take((2 * panels_of(outputs) + 1) * 8);
    quads = pieces.take(count * 2);
    blocks = pieces.take(count * kHalfBytes);
    bytes = pieces.bytes();
  }
};

// Two neighbouring weights as what stays within the bound and what is left: either has sums of
// positive and of negative weights of at most 128, as 255 * 128 < 32,768.
struct Pair {
  std::int8_t bounded[2];
  std::int8_t rest[2];

  explicit Pair(int a, int b)
      : bounded{static_cast<std::int8_t>(a), static_cast<std::int8_t>(b)}, rest{0, 0} {
    constexpr int kMost = 128;
    if ((a < 0) != (b < 0)) return;
    const int excess = a + b > kMost ? a + b - kMost : a + b < -kMost ? a + b + kMost : 0;
    const int larger = std::abs(a) >= std::abs(b) ? 0 : 1;
    rest[larger] = static_cast<std::int8_t>(excess);
    bounded[larger] = static_cast<std::int8_t>(bounded[larger] - excess);
  }
  bool has_rest() const { return rest[0] != 0 || rest[1] != 0; }
};

using HalfBlock = std::array<std::int8_t, kHalfBytes>;

// Block b of half a panel: 8 outputs x 4 inputs, zero where there are none.
HalfBlock block_of(const CanonicalLayer& layer, std::int64_t half, std::int64_t b) {
  HalfBlock block{};
  const std::int64_t first = b * kBlockInputs;
  const std::int64_t inputs = std::min(kBlockInputs, layer.inputs - first);
  const std::int64_t outputs = std::min(kHalfOutputs, layer.outputs - half * kHalfOutputs);
  for (std::int64_t j = 0; j < outputs; ++j)
    std::copy_n(layer.weight + (half * kHalfOutputs + j) * layer.inputs + first, inputs,
                block.begin() + j * kBlockInputs);
  return block;
}

// What of a block stays; the rest goes to `rest`. Returns whether there is any.
bool bound(HalfBlock& block, HalfBlock& rest) {
  bool any = false;
  for (std::size_t i = 0; i < block.size(); i += 2) {
    const Pair pair(block[i], block[i + 1]);
    std::copy_n(pair.bounded, 2, block.begin() + i);
    std::copy_n(pair.rest, 2, rest.begin() + i);
    any = any || pair.has_rest();
  }
  return any;
}

// Goes through all blocks: each(half, b, bounded, rest or nullptr).
template <typename Each>
void for_blocks(const CanonicalLayer& layer, const Each& each) {
  HalfBlock rest;
  for (std::int64_t half = 0; half < 2 * panels_of(layer.outputs); ++half)
    for (std::int64_t b = 0; b < divide_up(layer.inputs, kBlockInputs); ++b) {
      HalfBlock block = block_of(layer, half, b);
      const bool any = bound(block, rest);
      each(half, b, block, any ? &rest : nullptr);
    }
}

std::int64_t count(const CanonicalLayer& layer) {
  std::int64_t rests = 0;
  for_blocks(layer, [&](std::int64_t, std::int64_t, const HalfBlock&, const HalfBlock* rest) {
    rests += rest != nullptr ? 1 : 0;
  });
  return rests;
}

std::int64_t bytes(std::int64_t count, std::int64_t inputs, std::int64_t outputs) {
  return Layout(count, inputs, outputs).bytes;
}

std::int64_t read_bytes(std::int64_t count, std::int64_t inputs, std::int64_t outputs) {
  return kDenseLayout.read_bytes(0, inputs, outputs) + count * (kHalfBytes + 2);
}

void pack(const CanonicalLayer& layer, std::int64_t count, std::byte* section) {
  const Layout at(count, layer.inputs, layer.outputs);
  begin_section(layer, count, at.bytes, section);
  auto* starts = reinterpret_cast<std::uint64_t*>(section + at.starts);
  auto* quads = reinterpret_cast<std::uint16_t*>(section + at.quads);
  std::byte* const rests = section + at.blocks;
  std::uint64_t made = 0;
  for_blocks(layer, [&](std::int64_t half, std::int64_t b, const HalfBlock& block,
                        const HalfBlock* rest) {
    if (b == 0) starts[half] = made;
    std::memcpy(
        section + at.panels + half / 2 * at.panel_bytes + b * kBlockBytes + half % 2 * kHalfBytes,
        block.data(), block.size());
    if (rest == nullptr) return;
    quads[made] = static_cast<std::uint16_t>(b);
    std::memcpy(rests + static_cast<std::int64_t>(made++) * kHalfBytes, rest->data(), rest->size());
  });
  starts[2 * panels_of(layer.outputs)] = made;
}

Weights view(const std::byte* section, std::int64_t count, std::int64_t inputs,
             std::int64_t outputs) {
  const Layout at(count, inputs, outputs);
  Weights w = begin_view(section, inputs, outputs);
  w.bounded = {section + at.panels,
               at.panel_bytes,
               reinterpret_cast<const std::uint64_t*>(section + at.starts),
               reinterpret_cast<const std::uint16_t*>(section + at.quads),
               section + at.blocks,
               count};
  return w;
}

}  // namespace

const WeightLayout kBoundedLayout = {WeightForm::kBounded, kMostPercent, kAnyBytes, count, bytes,
                                     read_bytes,           pack,         view};

}  // namespace fastmnist
