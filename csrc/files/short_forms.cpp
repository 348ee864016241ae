#include "files/short_forms.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <utility>

#include "pack/sparse_encoding.h"

namespace fastmnist {
namespace {

// All dimensions but the last, and that.
struct Matrix {
  std::int64_t rows;
  std::int64_t columns;
};

// Positive sizes, at least two, whose product is no more than 2^40.
Result<Matrix> matrix_of(const Shape& shape) {
  constexpr std::int64_t kMost = std::int64_t{1} << 40;
  bool fits = shape.size() >= 2 && shape.size() <= kMostDimensions;
  std::int64_t rows = 1;
  for (std::size_t i = 0; fits && i < shape.size(); ++i) {
    fits = shape[i] > 0 && shape[i] < kMost;
    if (fits && i + 1 < shape.size()) {
      fits = rows <= kMost / shape[i];
      rows *= shape[i];
    }
  }
  if (!fits || rows > kMost / shape.back())
    return Status::invalid("shape", "two or more positive integers", text_of(shape).substr(0, 100));
  return Matrix{rows, shape.back()};
}

Status other_part(const char* name, Dtype dtype, const Shape& shape, const Array& came) {
  return Status::invalid(name, std::string(about(dtype).full) + " " + text_of(shape),
                         std::string(about(came.dtype()).full) + " " + text_of(came.shape()));
}

template <typename T>
Status scatter(const Array& bitmask, const Array& values, Matrix matrix, Array& into) {
  return decode_sparse({bitmask.as<std::uint8_t>(), bitmask.bytes().size()},
                       std::span(values.as<T>(), static_cast<std::size_t>(values.count())),
                       matrix.rows, matrix.columns, into.to_write<T>());
}

}  // namespace

Result<Array> decode_sparse(const Array& bitmask, const Array& values, const Shape& shape) {
  Result<Matrix> matrix = matrix_of(shape);
  if (!matrix.ok()) return std::move(matrix).status();
  const Shape expected = {matrix->rows, (matrix->columns + 7) / 8};
  if (bitmask.dtype() != Dtype::kUint8 || bitmask.shape() != expected)
    return other_part("bitmask", Dtype::kUint8, expected, bitmask);
  if (values.shape().size() != 1)
    return Status::invalid("values", "one dimension", text_of(values.shape()));
  Result<Array> made = Array::make(values.dtype(), shape);
  if (!made.ok()) return made;
  Status done;
  switch (about(values.dtype()).bytes) {
    case 1:
      done = scatter<std::uint8_t>(bitmask, values, *matrix, *made);
      break;
    case 2:
      done = scatter<std::uint16_t>(bitmask, values, *matrix, *made);
      break;
    case 4:
      done = scatter<std::uint32_t>(bitmask, values, *matrix, *made);
      break;
    default:
      done = scatter<std::uint64_t>(bitmask, values, *matrix, *made);
  }
  if (!done.ok()) return done;
  return made;
}

Result<Array> decode_indexed(const Array& table, const Array& indices, const Shape& shape) {
  Result<Matrix> matrix = matrix_of(shape);
  if (!matrix.ok()) return std::move(matrix).status();
  const auto* values = table.as<std::int8_t>();
  const std::int64_t count = table.count();
  const bool rising = table.dtype() == Dtype::kInt8 && table.shape().size() == 1 && count >= 1 &&
                      count <= kMostIndexed &&
                      std::adjacent_find(values, values + count,
                                         [](int a, int b) { return a >= b; }) == values + count;
  if (!rising)
    return Status::invalid("table", "1 to 128 rising int8 values",
                           std::string(about(table.dtype()).full) + " " + text_of(table.shape()));
  const int bits = std::max(1, static_cast<int>(std::bit_width(static_cast<unsigned>(count - 1))));
  const Shape expected = {matrix->rows, (matrix->columns * bits + 7) / 8};
  if (indices.dtype() != Dtype::kUint8 || indices.shape() != expected)
    return other_part("indices", Dtype::kUint8, expected, indices);
  Result<Array> made = Array::make(Dtype::kInt8, shape);
  if (!made.ok()) return made;
  auto* to = made->to_write<std::int8_t>();
  const auto* from = indices.as<std::uint8_t>();
  const unsigned mask = (1u << bits) - 1;
  for (std::int64_t row = 0; row < matrix->rows; ++row, from += expected[1]) {
    unsigned held = 0;  // bits that were read and not used yet, the next ones lowest
    int count_held = 0;
    std::int64_t next = 0;
    for (std::int64_t k = 0; k < matrix->columns; ++k) {
      if (count_held < bits) {
        held |= static_cast<unsigned>(from[next++]) << count_held;
        count_held += 8;
      }
      const unsigned place = held & mask;
      if (place >= static_cast<unsigned>(count))
        return Status::invalid("indices", "places below " + std::to_string(count),
                               std::to_string(place));
      *to++ = values[place];
      held >>= bits;
      count_held -= bits;
    }
    if (held != 0) return Status::invalid("indices", "zeros behind the end of each row", "others");
  }
  return made;
}

}  // namespace fastmnist
