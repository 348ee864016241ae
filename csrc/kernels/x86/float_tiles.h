// Float32 layers on x86: how every vector set walks one. A set is a class `Lanes` (avx2_float.cpp,
// avx512_float.cpp); everything is in an anonymous namespace, as kernel files need it.
//
// An output is one chain of fused multiply-adds, each of which waits for the one before: 4 cycles,
// while two can start in each. A tile is ROWS rows by PANELS panels whose chains run side by side,
// at least eight vectors of them if there is so much to do: few rows take many panels at once. What
// does not divide evenly is shared out evenly (7 rows: 4 and 3), as a last tile of one row would
// take as long as a whole one.
//
//     strip of rows, whose inputs stay in the second-level cache
//       group of panels
//         `kDepth` inputs: the group's weights stay in the first-level cache
//           tiles of rows
//
// Between one stretch of inputs and the next, sums wait in y: a chain that is interrupted is the
// same chain, and has the same bits.
#pragma once

#include "core/types.h"
#include "kernels/sizes.h"
#include "kernels/unroll.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

constexpr auto kFloatBytes = static_cast<std::int64_t>(sizeof(float));
// Rows and inputs of 512 KB.
constexpr std::int64_t kStripRows = 128;
constexpr std::int64_t kStretchInputs = 1024;

// One tile's share of a layer, from input `from` to input `to`.
struct FloatTile {
  const FloatLinearArgs& layer;
  std::int64_t row;
  std::int64_t panel;
  std::int64_t from;
  std::int64_t to;
  const float* next;  // a panel's weights that other tiles will read, from their input `from` on
};

template <typename Lanes, int ROWS, int VECTORS>
struct Sums {
  typename Lanes::Vector at[ROWS][VECTORS];
};

// y of the first row, and how many of its values the tile may touch.
inline float* first_output(const FloatTile& tile) {
  return tile.layer.y + tile.row * tile.layer.y_stride + tile.panel * kPanelOutputs;
}
inline std::int64_t outputs_left(const FloatTile& tile) {
  return tile.layer.outputs - tile.panel * kPanelOutputs;
}

template <typename Lanes, int ROWS, int VECTORS>
FASTMNIST_INLINE void clear(Sums<Lanes, ROWS, VECTORS>& sums) {
  unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
    unrolled<VECTORS>([&](auto v) FASTMNIST_INLINE_BODY { sums.at[r][v] = Lanes::zero(); });
  });
}

template <bool WHOLE, typename Lanes, int ROWS, int VECTORS>
FASTMNIST_INLINE void resume(const FloatTile& tile, Sums<Lanes, ROWS, VECTORS>& sums) {
  const float* y = first_output(tile);
  unrolled<VECTORS>([&](auto v) FASTMNIST_INLINE_BODY {
    const auto there = Lanes::there(outputs_left(tile) - v * Lanes::kWidth);
    unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
      const float* from = y + r * tile.layer.y_stride + v * Lanes::kWidth;
      if constexpr (WHOLE)
        sums.at[r][v] = Lanes::load(from);
      else
        sums.at[r][v] = Lanes::load(from, there);
    });
  });
}

template <typename Lanes, int ROWS, int VECTORS>
FASTMNIST_INLINE void finish(const FloatTile& tile, Sums<Lanes, ROWS, VECTORS>& sums) {
  const float* bias = tile.layer.bias + tile.panel * kPanelOutputs;
  const typename Lanes::Vector lo = Lanes::broadcast(&tile.layer.lo);
  const typename Lanes::Vector hi = Lanes::broadcast(&tile.layer.hi);
  unrolled<VECTORS>([&](auto v) FASTMNIST_INLINE_BODY {
    const typename Lanes::Vector offset = Lanes::load_aligned(bias + v * Lanes::kWidth);
    unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
      // The order of operands is core/arithmetic.h's: NaN passes through.
      const typename Lanes::Vector value = Lanes::add(sums.at[r][v], offset);
      sums.at[r][v] = Lanes::lesser(hi, Lanes::greater(lo, value));
    });
  });
}

template <bool WHOLE, typename Lanes, int ROWS, int VECTORS>
FASTMNIST_INLINE void put(const FloatTile& tile, const Sums<Lanes, ROWS, VECTORS>& sums) {
  float* y = first_output(tile);
  unrolled<VECTORS>([&](auto v) FASTMNIST_INLINE_BODY {
    const auto there = Lanes::there(outputs_left(tile) - v * Lanes::kWidth);
    unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
      float* to = y + r * tile.layer.y_stride + v * Lanes::kWidth;
      if constexpr (WHOLE)
        Lanes::store(to, sums.at[r][v]);
      else
        Lanes::store(to, there, sums.at[r][v]);
    });
  });
}

template <typename Lanes, int ROWS, int PANELS>
void run_tile(const FloatTile& tile) {
  constexpr int VECTORS = PANELS * static_cast<int>(kPanelOutputs / Lanes::kWidth);
  constexpr int PER_PANEL = VECTORS / PANELS;
  Sums<Lanes, ROWS, VECTORS> sums;
  const bool whole = outputs_left(tile) >= PANELS * kPanelOutputs;
  if (tile.from == 0)
    clear(sums);
  else if (whole)
    resume<true>(tile, sums);
  else
    resume<false>(tile, sums);
  const std::int64_t panel_stride = tile.layer.inputs * kPanelOutputs;
  const std::int64_t x_stride = tile.layer.x_stride;
  const float* w = tile.layer.panels + tile.panel * panel_stride + tile.from * kPanelOutputs;
  const float* x = tile.layer.x + tile.row * x_stride + tile.from;
  const float* next = tile.next;
  for (std::int64_t k = tile.to - tile.from; k > 0; --k, ++x, w += kPanelOutputs) {
    if constexpr (ROWS <= 3) {  // fewer registers for x than for weights
      typename Lanes::Vector inputs[ROWS];
      unrolled<ROWS>([&](auto r)
                         FASTMNIST_INLINE_BODY { inputs[r] = Lanes::broadcast(x + r * x_stride); });
      unrolled<VECTORS>([&](auto v) FASTMNIST_INLINE_BODY {
        const typename Lanes::Vector weights =
            Lanes::load_aligned(w + v / PER_PANEL * panel_stride + v % PER_PANEL * Lanes::kWidth);
        unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
          sums.at[r][v] = Lanes::fma(inputs[r], weights, sums.at[r][v]);
        });
      });
    } else {
      _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T1);
      next += kPanelOutputs;
      typename Lanes::Vector weights[VECTORS];
      unrolled<VECTORS>([&](auto v) FASTMNIST_INLINE_BODY {
        weights[v] =
            Lanes::load_aligned(w + v / PER_PANEL * panel_stride + v % PER_PANEL * Lanes::kWidth);
      });
      unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
        const typename Lanes::Vector input = Lanes::broadcast(x + r * x_stride);
        unrolled<VECTORS>([&](auto v) FASTMNIST_INLINE_BODY {
          sums.at[r][v] = Lanes::fma(input, weights[v], sums.at[r][v]);
        });
      });
    }
  }
  if (tile.to == tile.layer.inputs) finish(tile, sums);
  if (whole)
    put<true>(tile, sums);
  else
    put<false>(tile, sums);
}

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
  const std::int64_t panel_floats = args.inputs * kPanelOutputs;
  for_parts(stretch, depth, [&](const Span& inputs) {
    // What follows: the next inputs of these panels, or the next panels, or the first.
    std::int64_t next_panel = group.first;
    std::int64_t next_input = inputs.end;
    if (inputs.end == stretch.end) {
      next_panel = group.end + panels <= panels_of(args.outputs) ? group.end : 0;
      next_input = stretch.first;
    }
    const float* next = args.panels + next_panel * panel_floats + next_input * kPanelOutputs;
    std::int64_t asked = 0;
    for_parts(strip, most_rows, [&](const Span& rows) {
      kTiles<Lanes>.at[rows.end - rows.first - 1][panels - 1](
          {args, rows.first, group.first, inputs.first, inputs.end,
           next + (asked < panels ? asked : panels - 1) * panel_floats});
      ++asked;
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
