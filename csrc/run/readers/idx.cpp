#include "run/readers/idx.h"

#include <optional>

namespace fastmnist::run {
namespace {

constexpr std::size_t kMagicBytes = 4;

std::optional<Element> element_of(std::uint8_t code) {
  switch (code) {
    case 0x08:
      return Element::kUint8;
    case 0x09:
      return Element::kInt8;
    case 0x0b:
      return Element::kInt16;
    case 0x0c:
      return Element::kInt32;
    case 0x0d:
      return Element::kFloat32;
    case 0x0e:
      return Element::kFloat64;
    default:
      return std::nullopt;
  }
}

}  // namespace

bool is_idx(ByteSpan bytes) {
  return bytes.size() >= kMagicBytes && bytes[0] == 0 && bytes[1] == 0 &&
         element_of(bytes[2]).has_value();
}

Result<Array> view_idx(ByteSpan bytes) {
  if (!is_idx(bytes)) return Status::invalid("expected an IDX file, got another, or its beginning");
  const std::size_t dimensions = bytes[3];
  if (dimensions == 0 || dimensions > kMostDimensions)
    return Status::invalid("expected an IDX file of 1 to " + std::to_string(kMostDimensions) +
                           " dimensions, got " + std::to_string(dimensions));
  if (bytes.size() < kMagicBytes + 4 * dimensions)
    return Status::invalid("expected an IDX header of " +
                           std::to_string(kMagicBytes + 4 * dimensions) + " bytes, got " +
                           std::to_string(bytes.size()) + ": it is truncated");
  Array array;
  array.element = *element_of(bytes[2]);
  array.big_endian = true;
  for (std::size_t i = 0; i < dimensions; ++i) {
    const std::uint8_t* at = bytes.data() + kMagicBytes + 4 * i;
    array.shape.push_back(std::size_t{at[0]} << 24 | std::size_t{at[1]} << 16 |
                          std::size_t{at[2]} << 8 | std::size_t{at[3]});
  }
  array.bytes = bytes.subspan(kMagicBytes + 4 * dimensions);
  if (Status bad = check_size(array); !bad.ok()) return bad;
  return array;
}

}  // namespace fastmnist::run
