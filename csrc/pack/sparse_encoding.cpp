#include "pack/sparse_encoding.h"

#include <algorithm>
#include <bit>
#include <string>

namespace fastmnist {

template <typename T>
Status decode_sparse(std::span<const std::uint8_t> bitmask, std::span<const T> values,
                     std::int64_t rows, std::int64_t columns, T* to) {
  const std::int64_t stride = (columns + 7) / 8;
  if (static_cast<std::int64_t>(bitmask.size()) != rows * stride)
    return Status::invalid("bitmask",
                           std::to_string(rows) + " rows of " + std::to_string(stride) + " bytes",
                           std::to_string(bitmask.size()) + " bytes");
  std::size_t count = 0;
  for (const std::uint8_t bits : bitmask) count += static_cast<std::size_t>(std::popcount(bits));
  if (count != values.size())
    return Status::invalid("values", std::to_string(count) + ", as many as the bitmask has bits",
                           std::to_string(values.size()));
  std::fill_n(to, rows * columns, T{0});
  std::size_t next = 0;
  for (std::int64_t n = 0; n < rows; ++n)
    for (std::int64_t b = 0; b < stride; ++b)
      for (unsigned bits = bitmask[static_cast<std::size_t>(n * stride + b)]; bits != 0;
           bits &= bits - 1) {
        const std::int64_t k = 8 * b + std::countr_zero(bits);
        if (k >= columns)
          return Status::invalid("bitmask", "zeros behind the end of each row", "a bit");
        to[n * columns + k] = values[next++];
      }
  return {};
}

using Bits = std::span<const std::uint8_t>;
template FASTMNIST_API Status decode_sparse(Bits, std::span<const std::int8_t>, std::int64_t,
                                            std::int64_t, std::int8_t*);
template FASTMNIST_API Status decode_sparse(Bits, std::span<const std::uint8_t>, std::int64_t,
                                            std::int64_t, std::uint8_t*);
template FASTMNIST_API Status decode_sparse(Bits, std::span<const std::uint16_t>, std::int64_t,
                                            std::int64_t, std::uint16_t*);
template FASTMNIST_API Status decode_sparse(Bits, std::span<const std::uint32_t>, std::int64_t,
                                            std::int64_t, std::uint32_t*);
template FASTMNIST_API Status decode_sparse(Bits, std::span<const std::uint64_t>, std::int64_t,
                                            std::int64_t, std::uint64_t*);

}  // namespace fastmnist
