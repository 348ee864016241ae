// What the fuzzers share. Each is one function that takes any bytes; libFuzzer calls it, and
// AddressSanitizer and UBSan end the program where it goes wrong.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace fuzz {

using Bytes = std::span<const std::uint8_t>;

// A copy as packed buffers lie: it begins at a multiple of 64 and ends where the bytes end.
class Aligned {
 public:
  explicit Aligned(Bytes bytes) : size_(bytes.size()) {
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, std::max<std::size_t>(size_, 1)) != 0) std::abort();
    memory_.reset(static_cast<std::byte*>(memory));
    if (size_ > 0) std::memcpy(memory, bytes.data(), size_);
  }
  std::span<const std::byte> bytes() const { return {memory_.get(), size_}; }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  std::size_t size_;
};

// Numbers off the front of the input; 0 behind its end.
class Source {
 public:
  explicit Source(Bytes bytes) : bytes_(bytes) {}
  std::uint8_t byte() {
    if (bytes_.empty()) return 0;
    const std::uint8_t first = bytes_[0];
    bytes_ = bytes_.subspan(1);
    return first;
  }
  std::uint32_t word() {
    const std::uint32_t low = byte();
    return low | std::uint32_t{byte()} << 8;
  }
  Bytes rest() const { return bytes_; }

 private:
  Bytes bytes_;
};

// Rows that have what is special in them.
inline std::vector<float> float_rows(std::size_t count) {
  constexpr float kValues[] = {
      0.0f, 0.5f,  -1.25f, 3e38f, 1e-40f, __builtin_nanf(""), __builtin_inff(),
      1.0f, 0.25f, 0.75f,  2.0f};
  std::vector<float> rows(count);
  for (std::size_t i = 0; i < count; ++i) rows[i] = kValues[i % std::size(kValues)];
  return rows;
}

inline std::vector<std::uint8_t> pixel_rows(std::size_t count) {
  std::vector<std::uint8_t> rows(count);
  for (std::size_t i = 0; i < count; ++i) rows[i] = static_cast<std::uint8_t>(37 * i);
  return rows;
}

}  // namespace fuzz
