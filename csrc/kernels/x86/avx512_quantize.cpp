// AVX-512: rows of floats to codes and back, and what range they span.
#include "core/types.h"
#include "kernels/unroll.h"
#include "kernels/x86/avx512_epilogue.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

// For rows with a NaN (code 0) or values far out of range; slower.
template <typename Scaled>
[[gnu::noinline]] bool quantize_anything(const float* x, std::int64_t n, const Quantizer& quantizer,
                                         std::uint8_t* q, const Scaled& scaled) {
  __mmask16 nan = 0;
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const __mmask16 on = lanes(n - i);
    const __m512 v = _mm512_maskz_loadu_ps(on, x + i);
    const __mmask16 here = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    nan |= here;
    const __m512i c = rounded(scaled(v, i, on));
    store_codes(q + i, on, _mm512_mask_mov_epi32(c, here, _mm512_set1_epi32(-256)), quantizer);
  }
  return nan != 0;
}

// Codes of a row: scaled(x, i), rounded, plus zero point, 64 at a time. CENTERED: it is 0. Returns
// whether there is a NaN.
template <bool CENTERED, typename Scaled>
FASTMNIST_INLINE bool quantize_row(const float* x, std::int64_t n, const Quantizer& quantizer,
                                   std::uint8_t* q, const Scaled& scaled) {
  const __m512i zero_point = packed_zero_point(quantizer);
  // Converting makes INT_MIN of what is NaN or out of range, and packing -32768 of that: without it
  // there is nothing to bound or to report.
  __m512i least = _mm512_setzero_si512();
  std::int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    __m512i c[4];
    unrolled<4>([&](auto j) {
      const __m512 v = _mm512_loadu_ps(x + i + j * kLanes);
      c[j] = _mm512_cvtps_epi32(scaled(v, i + j * kLanes, __mmask16{0xffff}));
    });
    __m512i ab = _mm512_packs_epi32(c[0], c[1]);
    __m512i cd = _mm512_packs_epi32(c[2], c[3]);
    least = _mm512_min_epi16(least, _mm512_min_epi16(ab, cd));
    if constexpr (!CENTERED) {
      ab = _mm512_adds_epi16(ab, zero_point);
      cd = _mm512_adds_epi16(cd, zero_point);
    }
    _mm512_storeu_si512(q + i, in_order(_mm512_packus_epi16(ab, cd)));
  }
  for (; i < n; i += kLanes) {
    const __mmask16 on = lanes(n - i);
    const __m512i c = _mm512_cvtps_epi32(scaled(_mm512_maskz_loadu_ps(on, x + i), i, on));
    const __m512i ab = _mm512_packs_epi32(c, _mm512_setzero_si512());
    least = _mm512_min_epi16(least, ab);
    const __m512i codes =
        in_order(_mm512_packus_epi16(_mm512_adds_epi16(ab, zero_point), _mm512_setzero_si512()));
    _mm_mask_storeu_epi8(q + i, on, _mm512_castsi512_si128(codes));
  }
  const bool plain = _mm512_cmpeq_epi16_mask(least, _mm512_set1_epi16(-32768)) == 0;
  return !plain && quantize_anything(x, n, quantizer, q, scaled);
}

bool quantize(const float* x, std::int64_t n, Quantizer quantizer, std::uint8_t* q) {
  const __m512 inv_scale = _mm512_set1_ps(quantizer.inv_scale);
  const auto scaled = [inv_scale](__m512 v, std::int64_t, __mmask16) {
    return _mm512_mul_ps(v, inv_scale);
  };
  return quantizer.zero_point == 0 ? quantize_row<true>(x, n, quantizer, q, scaled)
                                   : quantize_row<false>(x, n, quantizer, q, scaled);
}

bool quantize_affine(const float* x, std::int64_t n, const float* multiplier, const float* offset,
                     std::uint8_t* q) {
  const auto scaled = [=](__m512 v, std::int64_t i, __mmask16 on) {
    const __m512 product = _mm512_mul_ps(v, _mm512_maskz_loadu_ps(on, multiplier + i));
    return _mm512_add_ps(product, _mm512_maskz_loadu_ps(on, offset + i));
  };
  return quantize_row<true>(x, n, Quantizer{}, q, scaled);
}

void dequantize(const std::uint8_t* q, std::int64_t n, Quantizer quantizer, float* x) {
  const __m512i zero_point = _mm512_set1_epi32(quantizer.zero_point);
  const __m512 scale = _mm512_set1_ps(quantizer.scale);
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const __mmask16 on = lanes(n - i);
    const __m512i codes = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(on, q + i));
    const __m512 values = _mm512_cvtepi32_ps(_mm512_sub_epi32(codes, zero_point));
    _mm512_mask_storeu_ps(x + i, on, _mm512_mul_ps(values, scale));
  }
}

RowRange row_range(const float* x, std::int64_t n) {
  const __m512 infinity = _mm512_set1_ps(__builtin_inff());
  __m512 lo = _mm512_setzero_ps();
  __m512 hi = _mm512_setzero_ps();
  __mmask16 finite = 0xffff;
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const __m512 v = _mm512_maskz_loadu_ps(lanes(n - i), x + i);
    lo = _mm512_min_ps(v, lo);
    hi = _mm512_max_ps(v, hi);
    finite = _mm512_mask_cmp_ps_mask(finite, _mm512_abs_ps(v), infinity, _CMP_LT_OQ);
  }
  return {_mm512_reduce_min_ps(lo), _mm512_reduce_max_ps(hi), finite == 0xffff};
}

}  // namespace

extern const RowKernels kAvx512Rows;
const RowKernels kAvx512Rows = {quantize, quantize_affine, dequantize, row_range};

}  // namespace fastmnist
