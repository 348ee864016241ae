// Every intrinsic that kernels compute with, on operands that somebody else made up: by the
// processor, or emulated, as kernels in this build are. test_instructions.cpp compares.
#pragma once

#include <cstdint>
#include <span>

namespace samples {

struct Operands {
  alignas(64) std::uint8_t vectors[3][64];
  std::uint64_t mask;
  // So many bytes exist here; behind them is a page that cannot be touched.
  std::uint8_t* tail;
  int tail_bytes;

  // The mask without lanes of `width` bytes that the tail does not have.
  std::uint64_t tail_mask(int width) const {
    const int count = tail_bytes / width;
    return count >= 64 ? mask : mask & ((std::uint64_t{1} << count) - 1);
  }
};

struct Sample {
  const char* name;
  bool floats;  // the result's lanes are: one NaN is as good as another
  void (*run)(const Operands& operands, std::uint8_t* result);  // up to 64 bytes of result
};

std::span<const Sample> avx2();
std::span<const Sample> avx512();  // with VNNI, VBMI and VBMI2

}  // namespace samples
