// An array in a file, as IDX and npy have it, and its numbers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "run/readers/memory.h"

namespace fastmnist::run {

enum class Element : std::uint8_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kUint64,
  kInt64,
  kFloat32,
  kFloat64
};

std::size_t size_of(Element element);
const char* name_of(Element element);  // "uint8"

inline constexpr std::size_t kMostDimensions = 8;

// A look at it; the bytes are the file's.
struct Array {
  Element element = Element::kUint8;
  bool big_endian = false;
  std::vector<std::size_t> shape;  // none is 0
  ByteSpan bytes;                  // as many as the shape asks for

  std::size_t count() const { return bytes.size() / size_of(element); }
};

// "60000 x 28 x 28"
std::string text_of(std::span<const std::size_t> shape);

// Whether `bytes` are what the shape asks for: none too few, none too many.
Status check_size(const Array& array);

// Of float32 or float64, rounded; beyond float32's range infinite.
Result<Memory<float>> floats_of(const Array& array);

// Of integers.
Result<Memory<std::int64_t>> integers_of(const Array& array);

}  // namespace fastmnist::run
