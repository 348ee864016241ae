// An array as a file holds it: numbers of one kind, row after row, lowest byte first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/status.h"

namespace fastmnist {

inline constexpr std::size_t kMostDimensions = 16;

enum class Dtype : std::uint8_t {
  kBool,
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kUint64,
  kInt64,
  kFloat16,
  kFloat32,
  kFloat64,
  kComplex64
};

// What safetensors and NumPy call it, and bytes a number.
struct DtypeName {
  std::string_view safetensors;
  std::string_view numpy;  // without the letter for the order of bytes
  std::string_view full;   // in messages
  std::size_t bytes;
};
inline constexpr DtypeName kDtypes[] = {
    {"BOOL", "b1", "bool", 1},     {"U8", "u1", "uint8", 1},    {"I8", "i1", "int8", 1},
    {"U16", "u2", "uint16", 2},    {"I16", "i2", "int16", 2},   {"U32", "u4", "uint32", 4},
    {"I32", "i4", "int32", 4},     {"U64", "u8", "uint64", 8},  {"I64", "i8", "int64", 8},
    {"F16", "f2", "float16", 2},   {"F32", "f4", "float32", 4}, {"F64", "f8", "float64", 8},
    {"C64", "c8", "complex64", 8},
};
inline const DtypeName& about(Dtype dtype) { return kDtypes[static_cast<std::size_t>(dtype)]; }

using Shape = std::vector<std::int64_t>;

inline std::string text_of(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i)
    text += (i == 0 ? "" : ", ") + (shape[i] < 0 ? "'any'" : std::to_string(shape[i]));
  return text + "]";
}

class Array {
 public:
  Array() = default;

  // Numbers that are not set yet.
  static Result<Array> make(Dtype dtype, Shape shape) {
    Array array;
    array.dtype_ = dtype;
    array.shape_ = std::move(shape);
    const std::size_t bytes = static_cast<std::size_t>(array.count()) * about(dtype).bytes;
    array.owned_.reset(static_cast<std::byte*>(
        ::operator new (bytes > 0 ? bytes : 1, std::align_val_t{64}, std::nothrow)));
    if (array.owned_ == nullptr) return Status::out_of_memory();
    array.bytes_ = {array.owned_.get(), bytes};
    return array;
  }
  // A look at bytes of somebody else's, which must be aligned for the dtype.
  static Array view(Dtype dtype, Shape shape, std::span<const std::byte> bytes) {
    Array array;
    array.dtype_ = dtype;
    array.shape_ = std::move(shape);
    array.bytes_ = bytes;
    return array;
  }
  Array look() const { return view(dtype_, shape_, bytes_); }

  Dtype dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  std::int64_t count() const {
    std::int64_t all = 1;
    for (const std::int64_t size : shape_) all *= size;
    return all;
  }
  std::span<const std::byte> bytes() const { return bytes_; }
  std::span<std::byte> bytes_to_write() { return {owned_.get(), bytes_.size()}; }
  bool is_owned() const { return owned_ != nullptr; }

  template <typename T>
  const T* as() const {
    return reinterpret_cast<const T*>(bytes_.data());
  }
  template <typename T>
  T* to_write() {
    return reinterpret_cast<T*>(owned_.get());
  }

 private:
  struct Free {
    void operator()(std::byte* memory) const { ::operator delete (memory, std::align_val_t{64}); }
  };

  Dtype dtype_ = Dtype::kUint8;
  Shape shape_;
  std::unique_ptr<std::byte, Free> owned_;
  std::span<const std::byte> bytes_;
};

}  // namespace fastmnist
