// Probe of the AVX2 kernels: products of bytes widened to 16 bits (VPMADDWD), which are exact.
#include "core/types.h"
#include "kernels/peak.h"
#include "kernels/peak_read.h"
#include "kernels/x86/assembly.h"

namespace fastmnist {
namespace {

std::int64_t products(const std::byte* operands, std::int64_t rounds) {
  constexpr int kSums = 8;
  const auto* p = reinterpret_cast<const __m128i*>(operands);
  const __m256i x = _mm256_cvtepu8_epi16(_mm_load_si128(p));
  const __m256i w = _mm256_cvtepi8_epi16(_mm_load_si128(p + 1));
  __m256i sums[kSums];
  unrolled<kSums>([&](auto i) { sums[i] = _mm256_setzero_si256(); });
  for (std::int64_t r = 0; r < rounds; ++r) {
    unrolled<kSums>(
        [&](auto i) { sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(fresh(x), w)); });
  }
  unrolled<kSums>([&](auto i) { keep(sums[i]); });
  return rounds * kSums * 16;
}

std::int64_t float_products(std::int64_t rounds) {
  constexpr int kSums = 12;
  const __m256 x = _mm256_set1_ps(0.5f);
  const __m256 one = _mm256_set1_ps(1.0f);
  __m256 sums[kSums];
  unrolled<kSums>([&](auto i) { sums[i] = one; });
  for (std::int64_t r = 0; r < rounds; ++r)
    unrolled<kSums>([&](auto i) { sums[i] = _mm256_fmadd_ps(sums[i], x, one); });
  unrolled<kSums>([&](auto i) { keep(sums[i]); });
  return rounds * kSums * 8;
}

}  // namespace

extern const PeakProbe kAvx2Peak;
const PeakProbe kAvx2Peak = {products, float_products, read<32>};

}  // namespace fastmnist
