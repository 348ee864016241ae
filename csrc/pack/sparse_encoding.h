// The canonical encoding of arrays with many zeros, the same on every machine: what files and
// pickles hold (python/fastmnist/int8/sparse_encoding.py writes it), and what
// torch.ops.fastmnist.pack_sparse takes.
//
//     weight  [ 3 0 0 -7 0 0 0 0 5 ]      bitmask  [ 0b00001001 0b00000001 ]   one bit a weight,
//             [ 0 0 0  0 0 0 0 0 0 ]               [ 0b00000000 0b00000000 ]   lowest first; rows
//                                         values   [ 3 -7 5 ]                  padded to bytes
#pragma once

#include <cstdint>
#include <span>

#include "core/export.h"
#include "core/status.h"

namespace fastmnist {

// Into [rows, columns], row-major, of unsigned numbers of 1, 2, 4 or 8 bytes or of int8. `bitmask`
// holds rows * ceil(columns / 8) bytes. Refused where bits behind a row are set or the number of
// values is not that of bits.
template <typename T>
Status decode_sparse(std::span<const std::uint8_t> bitmask, std::span<const T> values,
                     std::int64_t rows, std::int64_t columns, T* to);

}  // namespace fastmnist
