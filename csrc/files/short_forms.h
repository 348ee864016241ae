// Arrays in a shorter form than their own, as two tensors of a file (docs/format.md).
//
//     sparse    bitmask: a bit for each element that is not zero; values: those, in order
//     indexed   table: the distinct values, rising; indices: for each element its place there, in
//               as few bits as hold the largest
//
// Neither trusts its parts: they must have the sizes that the shape asks for, and nothing in the
// bits behind the end of a row. What comes out is at most 64 times as large as what went in.
#pragma once

#include <string_view>

#include "core/status.h"
#include "files/array.h"

namespace fastmnist {

inline constexpr int kMostIndexed = 128;  // values

Result<Array> decode_sparse(const Array& bitmask, const Array& values, const Shape& shape);
Result<Array> decode_indexed(const Array& table, const Array& indices, const Shape& shape);

}  // namespace fastmnist
