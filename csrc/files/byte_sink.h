// Bytes that are written one after the other. Where there is no memory for them it says so at the
// end, and writes no more.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>

namespace fastmnist {

class ByteSink {
 public:
  void push(std::uint8_t byte) {
    if (size_ == capacity_ && !grow()) return;
    bytes_[size_++] = byte;
  }

  bool ok() const { return !is_full_; }
  std::span<std::uint8_t> bytes() { return {bytes_.get(), size_}; }

 private:
  bool grow() {
    const std::size_t capacity = std::max<std::size_t>(256, 2 * capacity_);
    std::unique_ptr<std::uint8_t[]> more(is_full_ ? nullptr
                                                  : new (std::nothrow) std::uint8_t[capacity]);
    if (more == nullptr) {
      is_full_ = true;
      return false;
    }
    std::copy_n(bytes_.get(), size_, more.get());
    bytes_ = std::move(more);
    capacity_ = capacity;
    return true;
  }

  std::unique_ptr<std::uint8_t[]> bytes_;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
  bool is_full_ = false;
};

}  // namespace fastmnist
