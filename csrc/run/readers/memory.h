// Memory for what is as large as a file: owned, of a size known before, and its lack is no crash.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>

#include "core/status.h"

namespace fastmnist::run {

template <typename T>
class Memory {
 public:
  Memory() = default;  // none

  // `count` values that are not set yet.
  static Result<Memory> of(std::size_t count) {
    Memory memory;
    if (count > PTRDIFF_MAX / sizeof(T)) return Status::out_of_memory();
    memory.values_.reset(new (std::nothrow) T[count]);
    if (memory.values_ == nullptr) return Status::out_of_memory();
    memory.size_ = count;
    return memory;
  }

  // Another size; what was there stays, as much of it as fits.
  Status resize(std::size_t count) {
    Result<Memory> other = of(count);
    if (!other.ok()) return std::move(other).status();
    std::copy(data(), data() + std::min(count, size_), (*other).data());
    *this = *std::move(other);
    return {};
  }
  // Fewer values, in the same memory.
  void shrink(std::size_t count) { size_ = std::min(size_, count); }

  T* data() { return values_.get(); }
  const T* data() const { return values_.get(); }
  std::size_t size() const { return size_; }
  std::span<const T> values() const { return {values_.get(), size_}; }
  T& operator[](std::size_t i) { return values_[i]; }
  const T& operator[](std::size_t i) const { return values_[i]; }

 private:
  std::unique_ptr<T[]> values_;
  std::size_t size_ = 0;
};

using Bytes = Memory<std::uint8_t>;
using ByteSpan = std::span<const std::uint8_t>;

}  // namespace fastmnist::run
