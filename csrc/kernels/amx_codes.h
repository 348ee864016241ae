// Where the tiles of codes of a block of 32 rows are read from.
//
// A tile load reads 16 rows of 64 bytes, wanted or not. Mostly that is harmless: bytes behind a row
// meet zero weights, rows that do not exist are not stored. Only what lies past the end of x must
// not be touched; the rows that end there are copied first:
//
//     x   [ row 0 ............ ][ row 1 ............ ] ... [ row 15 .....:tail ]###  end of x
//                                                                        ^ the last tile would
//                                                                          read beyond: copied
#pragma once

#include <immintrin.h>

#include "core/types.h"
#include "kernels/amx_tile.h"

namespace fastmnist {
namespace {

constexpr std::int64_t kTileRows = 16;
constexpr std::int64_t kTileInputs = 64;
constexpr std::int64_t kTileBytes = kTileRows * kTileInputs;

// Where the codes of one block's rows are read: per half of 16 rows the body, and the last tile.
struct Codes {
  const std::uint8_t* body[2];
  std::int64_t body_stride[2];
  const std::uint8_t* tail[2];
  std::int64_t tail_stride[2];
};

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

Codes codes_of(const LinearArgs& args, std::int64_t m, std::uint8_t* copies) {
  const std::int64_t last = args.w.padded_inputs - kTileInputs;
  Codes codes{};
  for (int half = 0; half < 2; ++half) {
    const std::int64_t first = m + half * kTileRows;
    const std::int64_t rows = args.rows - first < kTileRows ? args.rows - first : kTileRows;
    const std::uint8_t* x = args.x + first * args.x_stride;
    codes.body[half] = x;
    codes.tail[half] = x + last;
    codes.body_stride[half] = codes.tail_stride[half] = args.x_stride;
    if (rows <= 0) break;
    const std::int64_t end = (first + kTileRows - 1) * args.x_stride + last + kTileInputs;
    if (end <= args.x_readable) continue;
    if (rows < kTileRows) {
      // Rows that do not exist are whatever the copy holds: their sums are not used.
      std::uint8_t* copy = copies + 2 * kTileBytes + half * kTileRows * args.w.padded_inputs;
      copy_rows(x, args.x_stride, rows, args.w.inputs, copy, args.w.padded_inputs);
      codes.body[half] = copy;
      codes.tail[half] = copy + last;
      codes.body_stride[half] = codes.tail_stride[half] = args.w.padded_inputs;
    } else {
      std::uint8_t* copy = copies + half * kTileBytes;
      copy_rows(x + last, args.x_stride, rows, args.w.inputs - last, copy, kTileInputs);
      codes.tail[half] = copy;
      codes.tail_stride[half] = kTileInputs;
    }
  }
  return codes;
}

}  // namespace
}  // namespace fastmnist
