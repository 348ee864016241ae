#include "run/readers/array.h"

#include <bit>
#include <cstring>
#include <limits>

namespace fastmnist::run {
namespace {

struct About {
  const char* name;
  std::size_t size;
};

constexpr About kAbout[] = {{"uint8", 1},   {"int8", 1},   {"uint16", 2}, {"int16", 2},
                            {"uint32", 4},  {"int32", 4},  {"uint64", 8}, {"int64", 8},
                            {"float32", 4}, {"float64", 8}};

const About& about(Element element) { return kAbout[static_cast<int>(element)]; }

// The i-th element's bits, whatever order its bytes have.
std::uint64_t bits_of(const Array& array, std::size_t i) {
  const std::size_t size = size_of(array.element);
  const std::uint8_t* bytes = array.bytes.data() + i * size;
  std::uint64_t bits = 0;
  for (std::size_t k = 0; k < size; ++k)
    bits = bits << 8 | bytes[array.big_endian ? k : size - 1 - k];
  return bits;
}

}  // namespace

std::size_t size_of(Element element) { return about(element).size; }
const char* name_of(Element element) { return about(element).name; }

std::string text_of(std::span<const std::size_t> shape) {
  std::string text;
  for (const std::size_t n : shape) text += (text.empty() ? "" : " x ") + std::to_string(n);
  return text;
}

Status check_size(const Array& array) {
  std::size_t bytes = size_of(array.element);
  for (const std::size_t n : array.shape) {
    if (n == 0)
      return Status::invalid("expected at least one value, got a shape of " + text_of(array.shape));
    if (bytes > std::numeric_limits<std::size_t>::max() / n)
      return Status::invalid("expected a shape that fits into memory, got " + text_of(array.shape));
    bytes *= n;
  }
  if (bytes == array.bytes.size()) return {};
  return Status::invalid("expected " + std::to_string(bytes) + " bytes of " + text_of(array.shape) +
                         " " + name_of(array.element) + " values, got " +
                         std::to_string(array.bytes.size()) +
                         (array.bytes.size() < bytes ? ": it is truncated" : ""));
}

Result<Memory<float>> floats_of(const Array& array) {
  const bool single = array.element == Element::kFloat32;
  if (!single && array.element != Element::kFloat64)
    return Status::invalid(std::string("expected rows of uint8 pixels, float32 or float64, got ") +
                           name_of(array.element));
  Result<Memory<float>> values = Memory<float>::of(array.count());
  if (!values.ok()) return values;
  for (std::size_t i = 0; i < values->size(); ++i) {
    const std::uint64_t bits = bits_of(array, i);
    (*values)[i] = single ? std::bit_cast<float>(static_cast<std::uint32_t>(bits))
                          : static_cast<float>(std::bit_cast<double>(bits));
  }
  return values;
}

Result<Memory<std::int64_t>> integers_of(const Array& array) {
  if (array.element == Element::kFloat32 || array.element == Element::kFloat64)
    return Status::invalid(std::string("expected integers, got ") + name_of(array.element));
  Result<Memory<std::int64_t>> values = Memory<std::int64_t>::of(array.count());
  if (!values.ok()) return values;
  for (std::size_t i = 0; i < values->size(); ++i) {
    const std::uint64_t bits = bits_of(array, i);
    std::int64_t& value = (*values)[i];
    switch (array.element) {
      case Element::kInt8:
        value = static_cast<std::int8_t>(bits);
        break;
      case Element::kInt16:
        value = static_cast<std::int16_t>(bits);
        break;
      case Element::kInt32:
        value = static_cast<std::int32_t>(bits);
        break;
      default:
        value = static_cast<std::int64_t>(bits);
    }
    if (array.element == Element::kUint64 && value < 0)
      return Status::invalid("expected integers below 2^63, got " + std::to_string(bits));
  }
  return values;
}

}  // namespace fastmnist::run
