#include "pack/sparse_encoding.h"

#include <algorithm>
#include <bit>
#include <string>

namespace fastmnist {

Status decode_sparse(std::span<const std::uint8_t> bitmask, std::span<const std::int8_t> values,
                     std::int64_t outputs, std::int64_t inputs, std::int8_t* weight) {
  const std::int64_t stride = (inputs + 7) / 8;
  if (static_cast<std::int64_t>(bitmask.size()) != outputs * stride)
    return Status::invalid(
        "bitmask", std::to_string(outputs) + " rows of " + std::to_string(stride) + " bytes",
        std::to_string(bitmask.size()) + " bytes");
  std::size_t count = 0;
  for (const std::uint8_t bits : bitmask) count += static_cast<std::size_t>(std::popcount(bits));
  if (count != values.size())
    return Status::invalid("values", std::to_string(count) + ", as many as the bitmask has bits",
                           std::to_string(values.size()));
  std::fill_n(weight, outputs * inputs, std::int8_t{0});
  std::size_t next = 0;
  for (std::int64_t n = 0; n < outputs; ++n)
    for (std::int64_t b = 0; b < stride; ++b)
      for (unsigned bits = bitmask[static_cast<std::size_t>(n * stride + b)]; bits != 0;
           bits &= bits - 1) {
        const std::int64_t k = 8 * b + std::countr_zero(bits);
        if (k >= inputs)
          return Status::invalid("bitmask", "zeros behind the end of each row", "a bit");
        weight[n * inputs + k] = values[next++];
      }
  return {};
}

}  // namespace fastmnist
