// One tile of a float32 layer on x86: ROWS rows by PANELS panels of 16 outputs.
//
// An output is one chain of fused multiply-adds, each of which waits for the one before: 4 cycles,
// while two can start in each. The chains of a tile run side by side; where they are few, the tile
// takes as long as with eight vectors of them. `Lanes` are a set's vectors (avx2_float.cpp,
// avx512_float.cpp). Everything is in an anonymous namespace, as kernel files need it.
#pragma once

#include "core/types.h"
#include "kernels/unroll.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

// One tile's share of a layer, from input `from` to input `to`.
struct FloatTile {
  const FloatLinearArgs& layer;
  std::int64_t row;
  std::int64_t panel;
  std::int64_t from;
  std::int64_t to;
  const float* next;  // weights of one panel that are wanted next: a hint
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
  [[maybe_unused]] const float* next = tile.next;
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
      if constexpr (Lanes::kAsksAhead) {
        _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T1);
        next += kPanelOutputs;
      }
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

}  // namespace
}  // namespace fastmnist
