// One step of a block of 32 rows x 2 panels: 64 inputs, four products.
//
//              panel p     panel p+1
//     rows     +---------+---------+       tmm4, tmm5: codes of rows 0-15, 16-31
//     0..15    | tmm0    | tmm1    |       tmm6, tmm7: weights of panels p, p+1
//     16..31   | tmm2    | tmm3    |
//              +---------+---------+       each loaded tile is used twice
//
// The second-level cache alone is too slow for both operands (7.1 ns a product instead of 5.5). One
// of them stays in the first level: the rows where the weights come from near, else the weights;
// the other is loaded past it.
#pragma once

#include "core/types.h"
#include "kernels/unroll.h"
#include "kernels/x86/amx_tile.h"

namespace fastmnist {
namespace {

// Which operand is loaded past the first-level cache.
enum class Streamed { kWeights, kRows };

// Of blocks at the edges only HALVES x 16 rows, or PANELS panels.
template <int HALVES, int PANELS, Streamed S>
struct Step32x2 {
  template <int T>
  static FASTMNIST_INLINE void load_codes(const void* base, std::int64_t stride) {
    if constexpr (S == Streamed::kWeights)
      tile_load<T>(base, stride);
    else
      tile_stream<T>(base, stride);
  }

  template <int T>
  static FASTMNIST_INLINE void load_weights(const void* base) {
    if constexpr (S == Streamed::kRows)
      tile_load<T>(base, 64);
    else
      tile_stream<T>(base, 64);
  }

  static FASTMNIST_INLINE void upper_half(const std::uint8_t* x, std::int64_t x_stride,
                                          const std::byte* w, std::int64_t panel_stride) {
    load_weights<6>(w);
    load_codes<4>(x, x_stride);
    tile_multiply<0, 4, 6>();
    if constexpr (PANELS == 2) {
      load_weights<7>(w + panel_stride);
      tile_multiply<1, 4, 7>();
    }
  }

  // Behind upper_half, which loads the weights.
  static FASTMNIST_INLINE void lower_half(const std::uint8_t* x, std::int64_t x_stride) {
    if constexpr (HALVES == 2) {
      load_codes<5>(x, x_stride);
      tile_multiply<2, 5, 6>();
      if constexpr (PANELS == 2) tile_multiply<3, 5, 7>();
    }
  }
};

}  // namespace
}  // namespace fastmnist
