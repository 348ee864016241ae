// Probe of the scalar kernels: plain loops, as fast as the compiler makes them for the baseline.
#include "core/types.h"
#include "kernels/peak.h"
#include "kernels/peak_read.h"

namespace fastmnist {
namespace {

std::int64_t products(const std::byte* operands, std::int64_t rounds) {
  constexpr int kCount = 1024;
  std::int16_t x[kCount];
  std::int16_t w[kCount];
  for (int i = 0; i < kCount; ++i) {
    x[i] = static_cast<std::uint8_t>(operands[i]);
    w[i] = static_cast<std::int8_t>(operands[kCount + i]);
  }
  std::uint32_t sum = 0;
  for (std::int64_t r = 0; r < rounds; ++r) {
    std::int32_t dot = 0;
    for (int i = 0; i < kCount; ++i) dot += x[i] * w[i];
    sum += static_cast<std::uint32_t>(dot);
    __asm__ volatile("" : : "m"(x), "m"(w), "r"(sum) : "memory");  // not to be done just once
  }
  return rounds * kCount;
}

std::int64_t float_products(std::int64_t rounds) {
  constexpr int kSums = 32;
  float sums[kSums] = {};
  for (std::int64_t r = 0; r < rounds; ++r)
    for (float& s : sums) s = s * 0.5f + 1.0f;
  __asm__ volatile("" : : "m"(sums));
  return rounds * kSums;
}

}  // namespace

extern const PeakProbe kScalarPeak;
const PeakProbe kScalarPeak = {products, float_products, read<16>};

}  // namespace fastmnist
