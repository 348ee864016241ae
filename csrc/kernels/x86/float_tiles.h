// How a float32 layer on x86 is shared out in tiles (float_tile.h).
//
// Few rows take many panels at once, so that enough chains run side by side. What does not divide
// evenly is shared out evenly (7 rows: 4 and 3), as a last tile of one row would take as long as a
// whole one.
//
//     strip of rows, stretch of inputs: both together stay in the second-level cache
//       group of panels
//         so many of the inputs that the group's weights stay in the first-level cache
//           tiles of rows; the first ask for the weights that come next, where that pays
//
// Between some inputs and the next, sums wait in y: a chain that is interrupted is the same chain,
// and has the same bits.
#pragma once

#include "kernels/sizes.h"
#include "kernels/x86/float_tile.h"

namespace fastmnist {
namespace {

constexpr auto kFloatBytes = static_cast<std::int64_t>(sizeof(float));
// Of rows and of inputs: 512 KB.
constexpr std::int64_t kStripRows = 128;
constexpr std::int64_t kStretchInputs = 1024;

using RunTile = void (*)(const FloatTile&);

// Lanes::kMostRows[p]: of a tile of p + 1 panels; never more than of one of p.
template <typename Lanes>
struct Tiles {
  static constexpr int kMostPanels = sizeof Lanes::kMostRows / sizeof Lanes::kMostRows[0];
  static constexpr int kMostRows = Lanes::kMostRows[0];
  RunTile at[kMostRows][kMostPanels];
};

template <typename Lanes>
constexpr Tiles<Lanes> make_tiles() {
  Tiles<Lanes> tiles{};
  unrolled<Tiles<Lanes>::kMostRows>([&](auto r) {
    unrolled<Tiles<Lanes>::kMostPanels>([&](auto p) {
      if constexpr (r < Lanes::kMostRows[p]) tiles.at[r][p] = run_tile<Lanes, r + 1, p + 1>;
    });
  });
  return tiles;
}

template <typename Lanes>
constexpr Tiles<Lanes> kTiles = make_tiles<Lanes>();

// Most panels of a tile for a layer of so many rows.
template <typename Lanes>
std::int64_t most_panels(std::int64_t rows) {
  std::int64_t panels = Tiles<Lanes>::kMostPanels;
  while (panels > Lanes::kPanelsOfManyRows && Lanes::kMostRows[panels - 1] < rows) --panels;
  return panels;
}

struct Span {
  std::int64_t first;
  std::int64_t end;
};

// The fewest parts of at most `most`, as even as can be.
template <typename Body>
FASTMNIST_INLINE void for_parts(const Span& whole, std::int64_t most, const Body& body) {
  std::int64_t parts = divide_up(whole.end - whole.first, most);
  for (Span part{whole.first, whole.first}; parts > 0; --parts, part.first = part.end) {
    part.end = part.first + divide_up(whole.end - part.first, parts);
    body(part);
  }
}

// All rows of a strip by one group of panels, with the inputs of a stretch.
template <typename Lanes>
void group_of_panels(const FloatLinearArgs& args, const Span& strip, const Span& stretch,
                     const Span& group) {
  const std::int64_t panels = group.end - group.first;
  const std::int64_t most_rows = Lanes::kMostRows[panels - 1];
  // Weights that are used once need not stay anywhere.
  const std::int64_t depth = strip.end - strip.first <= most_rows
                                 ? args.inputs
                                 : Lanes::kNearBytes / (panels * kPanelOutputs * kFloatBytes);
  const auto weights = [&](std::int64_t panel, std::int64_t input) {
    return args.panels + (panel * args.inputs + input) * kPanelOutputs;
  };
  for_parts(stretch, depth, [&](const Span& inputs) {
    // What follows: the next inputs of these panels, or the next panels, or the first. A tile asks
    // for one panel; when all are asked for, for what is near anyway.
    const bool others = inputs.end == stretch.end;
    const std::int64_t next_input = others ? stretch.first : inputs.end;
    std::int64_t next = !others ? group.first : group.end < panels_of(args.outputs) ? group.end : 0;
    const std::int64_t end =
        next + panels < panels_of(args.outputs) ? next + panels : panels_of(args.outputs);
    for_parts(strip, most_rows, [&](const Span& rows) {
      kTiles<Lanes>.at[rows.end - rows.first - 1][panels - 1](
          {args, rows.first, group.first, inputs.first, inputs.end,
           next < end ? weights(next, next_input) : weights(group.first, inputs.first)});
      ++next;
    });
  });
}

template <typename Lanes>
void float_linear(const FloatLinearArgs& args) {
  const std::int64_t most = most_panels<Lanes>(args.rows);
  const std::int64_t stretch =
      args.rows <= Lanes::kMostRows[most - 1] ? args.inputs : kStretchInputs;
  for_parts({0, args.rows}, kStripRows, [&](const Span& strip) {
    for_parts({0, args.inputs}, stretch, [&](const Span& inputs) {
      for_parts({0, panels_of(args.outputs)}, most,
                [&](const Span& group) { group_of_panels<Lanes>(args, strip, inputs, group); });
    });
  });
}

}  // namespace
}  // namespace fastmnist
