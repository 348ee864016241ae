// The tile unit of AMX in plain code, each thread with its own: what kernels/x86/amx_tile.h says in
// assembly. Where the processor raises an exception (no configuration, one that it does not know,
// tiles that do not fit each other) the process ends.
//
//     C[m][n] += sum over k, i of A[m][4k + i] * B[k][4n + i]     i is 0 to 3
#pragma once

#include <cstdint>
#include <cstring>

#include "emulated/fault.h"
#include "emulated/intrinsics.h"

namespace fastmnist::emulated {

struct Tile {
  int rows;
  int bytes_per_row;
  alignas(64) std::uint8_t data[16][64];
};

class TileUnit {
 public:
  // The 64 bytes that LDTILECFG reads.
  void configure(const void* config) {
    std::uint8_t bytes[64];
    std::memcpy(bytes, config, sizeof bytes);
    if (bytes[0] != 1) fault("a tile configuration's palette is not 1");
    for (int t = 0; t < 16; ++t) {
      const int rows = bytes[48 + t];
      const int width = bytes[16 + 2 * t] | bytes[17 + 2 * t] << 8;
      const bool fits = t < 8 ? rows <= 16 && width <= 64 : rows == 0 && width == 0;
      if (!fits || (rows == 0) != (width == 0)) fault("a tile configuration is too large");
      if (t < 8) tiles_[t] = {rows, width, {}};
    }
    configured_ = true;
  }

  void release() { configured_ = false; }

  void zero(int t) { std::memset(tile(t).data, 0, sizeof(Tile::data)); }

  void load(int t, const void* base, std::int64_t stride) {
    zero(t);
    const Tile& to = tile(t);
    for (int r = 0; r < to.rows; ++r)
      std::memcpy(tiles_[t].data[r], static_cast<const std::byte*>(base) + r * stride,
                  static_cast<std::size_t>(to.bytes_per_row));
  }

  void store(int t, void* base, std::int64_t stride) {
    const Tile& from = tile(t);
    for (int r = 0; r < from.rows; ++r)
      std::memcpy(static_cast<std::byte*>(base) + r * stride, from.data[r],
                  static_cast<std::size_t>(from.bytes_per_row));
  }

  void multiply(int to, int codes, int weights) {
    Tile& c = tile(to);
    const Tile& a = tile(codes);
    const Tile& b = tile(weights);
    if (to == codes || to == weights || codes == weights) fault("a tile is two operands");
    if (c.rows != a.rows || c.bytes_per_row != b.bytes_per_row || a.bytes_per_row != 4 * b.rows)
      fault("tiles of a product do not fit each other");
    for (int k = 0; k < b.rows; ++k) {
      __m128i w[8];  // 64 weights in 16 bits, those of two outputs in each
      for (int i = 0; i < 8; ++i)
        w[i] =
            _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(b.data[k] + 8 * i)));
      for (int m = 0; m < c.rows; ++m) {
        std::int32_t four;
        std::memcpy(&four, a.data[m] + 4 * k, sizeof four);
        const __m128i x = _mm_cvtepu8_epi16(_mm_set1_epi32(four));
        for (int i = 0; i < 4; ++i) {
          auto* sums = reinterpret_cast<__m128i*>(c.data[m] + 16 * i);
          const __m128i products =
              _mm_hadd_epi32(_mm_madd_epi16(x, w[2 * i]), _mm_madd_epi16(x, w[2 * i + 1]));
          _mm_store_si128(sums, _mm_add_epi32(_mm_load_si128(sums), products));
        }
      }
    }
  }

 private:
  Tile& tile(int t) {
    if (!configured_) fault("tiles are used before they are configured");
    if (tiles_[t].rows == 0) fault("a tile without rows is used");
    return tiles_[t];
  }

  bool configured_ = false;
  Tile tiles_[8] = {};
};

inline thread_local TileUnit tile_unit;

}  // namespace fastmnist::emulated

// The twins of amx_tile.h's functions.
namespace fastmnist {
namespace {

inline void tile_load_config(const TileConfig& config) { emulated::tile_unit.configure(&config); }

inline void tile_release() { emulated::tile_unit.release(); }

template <int T>
inline void tile_zero() {
  emulated::tile_unit.zero(T);
}

template <int T>
inline void tile_load(const void* base, std::int64_t stride) {
  emulated::tile_unit.load(T, base, stride);
}

template <int T>
inline void tile_stream(const void* base, std::int64_t stride) {
  emulated::tile_unit.load(T, base, stride);
}

template <int T>
inline void tile_store(void* base, std::int64_t stride) {
  emulated::tile_unit.store(T, base, stride);
}

template <int C, int A, int B>
inline void tile_multiply() {
  emulated::tile_unit.multiply(C, A, B);
}

}  // namespace
}  // namespace fastmnist
