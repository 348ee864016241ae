// AVX2: rows of floats to codes and back, and what range they span.
#include "core/types.h"
#include "kernels/unroll.h"
#include "kernels/x86/avx2_epilogue.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

__m256 load_floats(const float* x, std::int64_t n) {
  return n >= kLanes ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, lanes(n));
}

// Up to 16 codes of two vectors.
void store_codes(std::uint8_t* q, __m256i a, __m256i b, __m256i zero_point, std::int64_t n) {
  store_bytes(q, pack_codes<Output::kCodes>(a, b, zero_point), n);
}

// For rows with a NaN (code 0) or values far out of range; slower.
template <typename Scaled>
[[gnu::noinline]] bool quantize_anything(const float* x, std::int64_t n, __m256i zero_point,
                                         std::uint8_t* q, const Scaled& scaled) {
  __m256 nan = _mm256_setzero_ps();
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const __m256 v = load_floats(x + i, n - i);
    const __m256 here = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
    nan = _mm256_or_ps(nan, here);
    const __m256i c = _mm256_blendv_epi8(rounded(scaled(v, i, n - i)), _mm256_set1_epi32(-32768),
                                         _mm256_castps_si256(here));
    store_codes(q + i, c, c, zero_point, n - i < kLanes ? n - i : kLanes);
  }
  return _mm256_movemask_ps(nan) != 0;
}

// Codes of a row: scaled(x, i), rounded, plus zero point, 32 at a time. Returns whether there is a
// NaN.
template <typename Scaled>
FASTMNIST_INLINE bool quantize_row(const float* x, std::int64_t n, const Quantizer& quantizer,
                                   std::uint8_t* q, const Scaled& scaled) {
  const __m256i zero_point = packed_zero_point(quantizer);
  // Converting makes INT_MIN of what is NaN or out of range, and packing -32768 of that: without it
  // there is nothing to bound or to report.
  __m256i least = _mm256_setzero_si256();
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  std::int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    __m256i c[4];
    unrolled<4>([&](auto j) {
      c[j] =
          _mm256_cvtps_epi32(scaled(_mm256_loadu_ps(x + i + j * kLanes), i + j * kLanes, kLanes));
    });
    const __m256i ab = _mm256_packs_epi32(c[0], c[1]);
    const __m256i cd = _mm256_packs_epi32(c[2], c[3]);
    least = _mm256_min_epi16(least, _mm256_min_epi16(ab, cd));
    const __m256i bytes =
        _mm256_packus_epi16(_mm256_adds_epi16(ab, zero_point), _mm256_adds_epi16(cd, zero_point));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(q + i),
                        _mm256_permutevar8x32_epi32(bytes, order));
  }
  for (; i < n; i += kLanes) {
    const std::int64_t left = n - i < kLanes ? n - i : kLanes;
    const __m256i c = _mm256_cvtps_epi32(scaled(load_floats(x + i, left), i, left));
    least = _mm256_min_epi16(least, _mm256_packs_epi32(c, c));
    store_codes(q + i, c, c, zero_point, left);
  }
  const __m256i far = _mm256_cmpeq_epi16(least, _mm256_set1_epi16(-32768));
  return _mm256_movemask_epi8(far) != 0 && quantize_anything(x, n, zero_point, q, scaled);
}

bool quantize(const float* x, std::int64_t n, Quantizer quantizer, std::uint8_t* q) {
  const __m256 inv_scale = _mm256_set1_ps(quantizer.inv_scale);
  return quantize_row(x, n, quantizer, q, [inv_scale](__m256 v, std::int64_t, std::int64_t) {
    return _mm256_mul_ps(v, inv_scale);
  });
}

bool quantize_affine(const float* x, std::int64_t n, const float* multiplier, const float* offset,
                     std::uint8_t* q) {
  return quantize_row(x, n, Quantizer{}, q, [=](__m256 v, std::int64_t i, std::int64_t left) {
    const __m256 product = _mm256_mul_ps(v, load_floats(multiplier + i, left));
    return _mm256_add_ps(product, load_floats(offset + i, left));
  });
}

void dequantize(const std::uint8_t* q, std::int64_t n, Quantizer quantizer, float* x) {
  const __m256i zero_point = _mm256_set1_epi32(quantizer.zero_point);
  const __m256 scale = _mm256_set1_ps(quantizer.scale);
  for (std::int64_t i = 0; i < n; i += kLanes) {
    std::uint8_t buffer[kLanes] = {};
    const std::int64_t count = n - i < kLanes ? n - i : kLanes;
    for (std::int64_t j = 0; j < count; ++j) buffer[j] = q[i + j];
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(buffer));
    const __m256i values = _mm256_sub_epi32(_mm256_cvtepu8_epi32(bytes), zero_point);
    store_floats(x + i, _mm256_mul_ps(_mm256_cvtepi32_ps(values), scale), count);
  }
}

RowRange row_range(const float* x, std::int64_t n) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  const __m256 infinity = _mm256_set1_ps(__builtin_inff());
  __m256 lo = _mm256_setzero_ps();
  __m256 hi = _mm256_setzero_ps();
  __m256 finite = _mm256_castsi256_ps(_mm256_set1_epi32(-1));
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const __m256 v = load_floats(x + i, n - i);
    lo = _mm256_min_ps(v, lo);
    hi = _mm256_max_ps(v, hi);
    finite =
        _mm256_and_ps(finite, _mm256_cmp_ps(_mm256_and_ps(v, magnitude), infinity, _CMP_LT_OQ));
  }
  float los[kLanes];
  float his[kLanes];
  _mm256_storeu_ps(los, lo);
  _mm256_storeu_ps(his, hi);
  RowRange range{0.0f, 0.0f, _mm256_movemask_ps(finite) == 0xff};
  for (std::int64_t i = 0; i < kLanes; ++i) {
    range.lo = los[i] < range.lo ? los[i] : range.lo;
    range.hi = his[i] > range.hi ? his[i] : range.hi;
  }
  return range;
}

}  // namespace

extern const RowKernels kAvx2Rows;
const RowKernels kAvx2Rows = {quantize, quantize_affine, dequantize, row_range};

}  // namespace fastmnist
