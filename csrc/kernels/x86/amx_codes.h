// Where the tiles of codes of 16 rows are read from.
//
// A tile load reads 16 rows of 64 bytes, wanted or not. Mostly that is harmless: bytes behind a row
// meet zero weights, rows that do not exist are not stored. Only what lies past the end of x must
// not be touched; the rows that end there are copied first:
//
//     x   [ row 0 ............ ][ row 1 ............ ] ... [ row 15 .....:tail ]###  end of x
//                                                                        ^ the last tile would
//                                                                          read beyond: copied
//
// Speed asks for more. A tile whose rows cross cache lines takes 10.7 ns to load instead of 2.3,
// and the 16 rows of a tile of a wide layer lie in 16 pages, more than the processor has
// translations at hand. With many panels to go the codes had better be brought to tile order once:
//
//     row-major    [row 0: 0..63 | 64..127 | ...][row 1: 0..63 | ...
//     tile order   [rows 0-15: 0..63][rows 0-15: 64..127] ... [rows 16-31: 0..63] ...
#pragma once

#include "core/types.h"
#include "kernels/sizes.h"
#include "kernels/x86/amx_tile.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

constexpr std::int64_t kTileRows = 16;
constexpr std::int64_t kTileInputs = 64;
constexpr std::int64_t kTileBytes = kTileRows * kTileInputs;

// What the loops work on: rows as they came, or brought to tile order before (tiled, below).
struct TileArgs : LinearArgs {
  explicit TileArgs(const LinearArgs& args) : LinearArgs(args) {}
  bool x_tiled = false;
};

// Where the codes of 16 rows are read: all tiles but the last, and the last.
struct Codes {
  const std::uint8_t* body;
  std::int64_t body_stride;
  std::int64_t step;  // from one tile to the next
  const std::uint8_t* tail;
  std::int64_t tail_stride;
};

// n bytes of each row; up to 63 bytes behind them in `to` become zero.
void copy_rows(const std::uint8_t* from, std::int64_t stride, std::int64_t rows, std::int64_t n,
               std::uint8_t* to, std::int64_t to_stride) {
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t k = 0; k < n; k += 64) {
      const std::int64_t left = n - k;
      const __mmask64 on = left >= 64 ? ~__mmask64{0} : (__mmask64{1} << left) - 1;
      _mm512_storeu_si512(to + r * to_stride + k,
                          _mm512_maskz_loadu_epi8(on, from + r * stride + k));
    }
}

// Rows of n codes to tile order: 16 rows x 64 codes, on end, are a kilobyte on end, rows of tiles
// follow each other. `to` holds whole tiles; their padding becomes zero, rows that do not exist
// stay as they are.
void tile_rows(const std::uint8_t* from, std::int64_t stride, std::int64_t rows, std::int64_t n,
               std::uint8_t* to) {
  const std::int64_t tiles = divide_up(n, kTileInputs);
  for (std::int64_t m = 0; m < rows; m += kTileRows)
    for (std::int64_t t = 0; t < tiles; ++t, to += kTileBytes) {
      const std::int64_t k = t * kTileInputs;
      copy_rows(from + m * stride + k, stride, rows - m < kTileRows ? rows - m : kTileRows,
                n - k < kTileInputs ? n - k : kTileInputs, to, kTileInputs);
    }
}

// Bytes of memory for copies that codes_of may need.
constexpr std::int64_t copy_bytes(std::int64_t padded_inputs) { return kTileRows * padded_inputs; }

// Rows that end too close to the end of x.
[[gnu::noinline]] Codes copied_codes(const TileArgs& args, std::int64_t first,
                                     std::uint8_t* copies) {
  const std::int64_t last = args.w.padded_inputs - kTileInputs;
  const std::int64_t left = args.rows - first;
  const std::uint8_t* x = args.x + first * args.x_stride;
  if (left >= kTileRows) {
    copy_rows(x + last, args.x_stride, kTileRows, args.w.inputs - last, copies, kTileInputs);
    return {x, args.x_stride, kTileInputs, copies, kTileInputs};
  }
  // Rows that do not exist are whatever the copy holds: their sums are not used.
  copy_rows(x, args.x_stride, left, args.w.inputs, copies, args.w.padded_inputs);
  return {copies, args.w.padded_inputs, kTileInputs, copies + last, args.w.padded_inputs};
}

// The rows from `first` on; `copies` is used where they end too close to the end of x.
inline Codes codes_of(const TileArgs& args, std::int64_t first, std::uint8_t* copies) {
  const std::int64_t last = args.w.padded_inputs - kTileInputs;
  if (args.x_tiled) {
    const std::uint8_t* x = args.x + first * args.w.padded_inputs;
    return {x, kTileInputs, kTileBytes, x + last * kTileRows, kTileInputs};
  }
  const std::uint8_t* x = args.x + first * args.x_stride;
  const std::int64_t end = (first + kTileRows - 1) * args.x_stride + last + kTileInputs;
  if (x + (end - first * args.x_stride) <= args.x_end)
    return {x, args.x_stride, kTileInputs, x + last, args.x_stride};
  return copied_codes(args, first, copies);
}

// Passing over all rows with so many panels, for so many rows, pays for tile order: where rows
// cross cache lines, or are so wide that every one lies in a page of its own.
constexpr std::int64_t kManyOutputs = 512;
constexpr std::int64_t kManyRows = 2 * kTileRows;
constexpr std::int64_t kWideInputs = 1024;
constexpr std::int64_t kTiledRows = 1024;  // at a time: scratch memory has an end

inline std::int64_t tiled_bytes(const LinearShape& shape) {
  if (shape.rows <= kManyRows || shape.outputs < kManyOutputs) return 0;
  const std::int64_t rows = shape.rows < kTiledRows ? shape.rows : kTiledRows;
  return round_up(rows, kTileRows) * round_up(shape.inputs, kTileInputs);
}

inline bool tile_order_pays(const LinearArgs& args) {
  const bool by_lines =
      reinterpret_cast<std::uintptr_t>(args.x) % 64 == 0 && args.x_stride % 64 == 0;
  return args.rows > kManyRows && args.w.outputs >= kManyOutputs &&
         (!by_lines || args.w.padded_inputs >= kWideInputs);
}

// Runs a loop on rows in the order that suits it. `tiles` has tiled_bytes(...).
template <typename Loop>
void run_tiled(const LinearArgs& args, std::uint8_t* tiles, std::int64_t output_bytes) {
  if (!tile_order_pays(args)) {
    Loop(TileArgs(args)).run();
    return;
  }
  for (std::int64_t m = 0; m < args.rows; m += kTiledRows) {
    TileArgs part(args);
    part.rows = args.rows - m < kTiledRows ? args.rows - m : kTiledRows;
    tile_rows(args.x + m * args.x_stride, args.x_stride, part.rows, args.w.inputs, tiles);
    part.x = tiles;
    part.x_tiled = true;
    part.y = static_cast<std::byte*>(args.y) + m * args.y_stride * output_bytes;
    if (args.row_quantizers != nullptr) part.row_quantizers = args.row_quantizers + m;
    Loop(part).run();
  }
}

}  // namespace
}  // namespace fastmnist
