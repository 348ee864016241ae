// Probe of the AVX-512 VNNI kernels: VPDPBUSD, 64 products an instruction.
#include "core/types.h"
#include "kernels/peak.h"
#include "kernels/peak_read.h"
#include "kernels/x86/assembly.h"

namespace fastmnist {
namespace {

constexpr int kSums = 16;  // more than latency times instructions per cycle

std::int64_t products(const std::byte* operands, std::int64_t rounds) {
  const __m512i x = _mm512_load_si512(operands);
  const __m512i w = _mm512_load_si512(operands + 64);
  __m512i sums[kSums];
  unrolled<kSums>([&](auto i) { sums[i] = _mm512_setzero_si512(); });
  for (std::int64_t r = 0; r < rounds; ++r)
    unrolled<kSums>([&](auto i) { sums[i] = _mm512_dpbusd_epi32(sums[i], x, w); });
  unrolled<kSums>([&](auto i) { keep(sums[i]); });
  return rounds * kSums * 64;
}

std::int64_t float_products(std::int64_t rounds) {
  const __m512 x = _mm512_set1_ps(0.5f);
  const __m512 one = _mm512_set1_ps(1.0f);
  __m512 sums[kSums];
  unrolled<kSums>([&](auto i) { sums[i] = one; });
  for (std::int64_t r = 0; r < rounds; ++r)
    unrolled<kSums>([&](auto i) { sums[i] = _mm512_fmadd_ps(sums[i], x, one); });
  unrolled<kSums>([&](auto i) { keep(sums[i]); });
  return rounds * kSums * 16;
}

}  // namespace

extern const PeakProbe kAvx512VnniPeak;
const PeakProbe kAvx512VnniPeak = {products, float_products, read<64>};

}  // namespace fastmnist
