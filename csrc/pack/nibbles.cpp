// The form in nibbles: a table of at most 16 values, and 4 bits a weight.
#include <bitset>
#include <cstring>

#include "kernels/sizes.h"
#include "pack/layouts.h"

namespace fastmnist {
namespace {

constexpr std::int64_t kTableBytes = 64;

struct Layout {
  std::int64_t stride, table, panels, bytes;

  Layout(std::int64_t inputs, std::int64_t outputs) {
    stride = round_up(inputs, kInputPadding) * kPanelOutputs / 2;
    Pieces pieces(outputs);
    table = pieces.take(kTableBytes);
    panels = pieces.take(panels_of(outputs) * stride);
    bytes = pieces.bytes();
  }
};

// The values of a layer, with 0 among them where inputs are padded; false where they are too many.
bool values_of(const CanonicalLayer& layer, std::int8_t (&table)[kMostNibbleValues]) {
  std::bitset<256> seen;
  const std::int64_t all = layer.inputs * layer.outputs;
  for (std::int64_t i = 0; i < all; ++i) seen.set(static_cast<std::uint8_t>(layer.weight[i]));
  if (layer.inputs % kInputPadding != 0) seen.set(0);
  if (seen.count() > kMostNibbleValues) return false;
  std::memset(table, 0, sizeof table);
  int next = 0;
  for (int value = 0; value < 256; ++value)
    if (seen.test(static_cast<std::size_t>(value))) table[next++] = static_cast<std::int8_t>(value);
  return true;
}

bool fits(const CanonicalLayer& layer) {
  std::int8_t table[kMostNibbleValues];
  return values_of(layer, table);
}

std::int64_t bytes(std::int64_t, std::int64_t inputs, std::int64_t outputs) {
  return Layout(inputs, outputs).bytes;
}

std::int64_t read_bytes(std::int64_t, std::int64_t inputs, std::int64_t outputs) {
  return panels_of(outputs) * Layout(inputs, outputs).stride;
}

// Byte and shift of weight [n][k].
struct Place {
  std::int64_t byte;
  int shift;

  Place(std::int64_t stride, std::int64_t n, std::int64_t k)
      : byte(n / kPanelOutputs * stride + k / (2 * kBlockInputs) * kBlockBytes +
             n % kPanelOutputs * kBlockInputs + k % kBlockInputs),
        shift(k / kBlockInputs % 2 != 0 ? 4 : 0) {}
};

void pack(const CanonicalLayer& layer, std::int64_t, std::byte* section) {
  const Layout at(layer.inputs, layer.outputs);
  begin_section(layer, 0, at.bytes, section);
  std::int8_t table[kMostNibbleValues];
  values_of(layer, table);
  std::byte index[256] = {};  // padding has that of 0; where there is none, nothing reads it
  for (int i = kMostNibbleValues; i-- > 0;)
    index[static_cast<std::uint8_t>(table[i])] = static_cast<std::byte>(i);
  for (std::int64_t i = 0; i < kTableBytes; i += kMostNibbleValues)
    std::memcpy(section + at.table + i, table, sizeof table);
  std::byte* const panels = section + at.panels;
  const auto zero = static_cast<unsigned>(index[0]);
  std::memset(panels, static_cast<int>(zero | zero << 4),
              static_cast<std::size_t>(panels_of(layer.outputs) * at.stride));
  for (std::int64_t n = 0; n < layer.outputs; ++n)
    for (std::int64_t k = 0; k < layer.inputs; ++k) {
      const Place to(at.stride, n, k);
      const auto own = index[static_cast<std::uint8_t>(layer.weight[n * layer.inputs + k])];
      panels[to.byte] = (panels[to.byte] & std::byte(0xf0 >> to.shift)) | own << to.shift;
    }
}

Weights view(const std::byte* section, std::int64_t, std::int64_t inputs, std::int64_t outputs) {
  const Layout at(inputs, outputs);
  Weights w = begin_view(section, inputs, outputs);
  w.nibbles = {section + at.panels, at.stride,
               reinterpret_cast<const std::int8_t*>(section + at.table)};
  return w;
}

}  // namespace

void unpack_nibbles(const Weights& packed, std::int8_t* weight) {
  const NibblePanels& nibbles = packed.nibbles;
  for (std::int64_t n = 0; n < packed.outputs; ++n)
    for (std::int64_t k = 0; k < packed.inputs; ++k) {
      const Place from(nibbles.stride, n, k);
      const auto both = static_cast<unsigned>(nibbles.panels[from.byte]);
      weight[n * packed.inputs + k] = nibbles.table[both >> from.shift & 15u];
    }
}

const WeightLayout kNibblesLayout = {WeightForm::kNibbles, kAnyPercent, kAnyBytes, nullptr, bytes,
                                     read_bytes,           pack,        view,      fits,
                                     /*only_far=*/true};

}  // namespace fastmnist
