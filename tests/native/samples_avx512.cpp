#include <cstring>

#include "instruction_samples.h"
#include "kernels/x86/assembly.h"
#include "kernels/x86/intrinsics.h"

namespace samples {
namespace {

__m128i quarter(const Operands& o, int i) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(o.vectors[i]));
}
__m512i ints(const Operands& o, int i) { return _mm512_loadu_si512(o.vectors[i]); }
__m512 reals(const Operands& o, int i) { return _mm512_castsi512_ps(ints(o, i)); }
__mmask16 mask(const Operands& o) { return static_cast<__mmask16>(o.mask); }

template <typename Result>
void put(std::uint8_t* result, const Result& value) {
  std::memcpy(result, &value, sizeof value);
}

void put_tail(std::uint8_t* result, const Operands& o) {
  std::memcpy(result, o.tail, static_cast<std::size_t>(o.tail_bytes));
}

// Of numbers only: which NaN a reduction keeps is nobody's business.
__m512 numbers(const Operands& o, int i) {
  return _mm512_cvtepi32_ps(_mm512_max_epi32(ints(o, i), _mm512_set1_epi32(-1000000)));
}

// Integers from -256 to 255, as floats.
__m512 exponents(const Operands& o, int i) {
  const __m512i low = _mm512_and_si512(ints(o, i), _mm512_set1_epi32(511));
  return _mm512_cvtepi32_ps(_mm512_sub_epi32(low, _mm512_set1_epi32(256)));
}

#define INTS(name, ...)                                                                 \
  {                                                                                     \
#name, false, [](const Operands& o, std::uint8_t* y) { put(y, name(__VA_ARGS__)); } \
  }
#define REALS(name, ...)                                                               \
  {                                                                                    \
#name, true, [](const Operands& o, std::uint8_t* y) { put(y, name(__VA_ARGS__)); } \
  }

constexpr Sample kSamples[] = {
    {"add_products", false,
     [](const Operands& o, std::uint8_t* y) {
       __m512i sums = ints(o, 0);
       fastmnist::add_products(sums, ints(o, 1), ints(o, 2));
       put(y, sums);
     }},
    INTS(_mm512_abs_ps, reals(o, 0)),
    INTS(_mm512_and_si512, ints(o, 0), ints(o, 1)),
    INTS(_mm512_shuffle_epi8, ints(o, 0), ints(o, 1)),
    INTS(_mm512_srli_epi16, ints(o, 0), 4),
    INTS(_mm512_add_epi32, ints(o, 0), ints(o, 1)),
    REALS(_mm512_add_ps, reals(o, 0), reals(o, 1)),
    INTS(_mm512_adds_epi16, ints(o, 0), ints(o, 1)),
    INTS(_mm512_broadcastd_epi32, quarter(o, 0)),
    INTS(_mm512_cmp_ps_mask, reals(o, 0), reals(o, 1), _CMP_UNORD_Q),
    {"_mm512_cmp_ps_mask", false,
     [](const Operands& o, std::uint8_t* y) {
       put(y, _mm512_cmp_ps_mask(reals(o, 0), reals(o, 1), _CMP_LT_OQ));
     }},
    INTS(_mm512_cmpeq_epi16_mask, ints(o, 0), ints(o, 1)),
    REALS(_mm512_cvtepi32_ps, ints(o, 0)),
    INTS(_mm512_cvtepu8_epi32, quarter(o, 0)),
    INTS(_mm512_cvtps_epi32, reals(o, 0)),
    INTS(_mm512_cvtusepi32_epi8, ints(o, 0)),
    REALS(_mm512_div_ps, reals(o, 0), reals(o, 1)),
    INTS(_mm512_dpbusd_epi32, ints(o, 0), ints(o, 1), ints(o, 2)),
    INTS(_mm512_extracti32x4_epi32, ints(o, 0), 3),
    INTS(_mm512_extracti64x4_epi64, ints(o, 0), 1),
    REALS(_mm512_fmadd_ps, reals(o, 0), reals(o, 1), reals(o, 2)),
    INTS(_mm512_mask_blend_ps, mask(o), reals(o, 0), reals(o, 1)),
    INTS(_mm512_mask_cmp_ps_mask, mask(o), reals(o, 0), reals(o, 1), _CMP_LT_OQ),
    INTS(_mm512_mask_mov_epi32, ints(o, 0), mask(o), ints(o, 1)),
    {"_mm512_mask_storeu_ps", false,
     [](const Operands& o, std::uint8_t* y) {
       _mm512_mask_storeu_ps(o.tail, static_cast<__mmask16>(o.tail_mask(4)), reals(o, 0));
       put_tail(y, o);
     }},
    INTS(_mm512_maskz_compress_epi32, mask(o), ints(o, 0)),
    INTS(_mm512_maskz_expand_epi8, _cvtu64_mask64(o.mask), ints(o, 0)),
    INTS(_mm512_maskz_loadu_epi8, o.tail_mask(1), o.tail),
    INTS(_mm512_maskz_loadu_ps, static_cast<__mmask16>(o.tail_mask(4)), o.tail),
    INTS(_mm512_max_epi32, ints(o, 0), ints(o, 1)),
    REALS(_mm512_max_ps, reals(o, 0), reals(o, 1)),
    INTS(_mm512_min_epi16, ints(o, 0), ints(o, 1)),
    INTS(_mm512_min_epi32, ints(o, 0), ints(o, 1)),
    REALS(_mm512_min_ps, reals(o, 0), reals(o, 1)),
    REALS(_mm512_mul_ps, reals(o, 0), reals(o, 1)),
    INTS(_mm512_mullo_epi32, ints(o, 0), ints(o, 1)),
    INTS(_mm512_packs_epi32, ints(o, 0), ints(o, 1)),
    INTS(_mm512_packus_epi16, ints(o, 0), ints(o, 1)),
    INTS(_mm512_permutex2var_epi8, ints(o, 0), ints(o, 1), ints(o, 2)),
    INTS(_mm512_permutexvar_epi32, ints(o, 0), ints(o, 1)),
    REALS(_mm512_reduce_max_ps, numbers(o, 0)),
    REALS(_mm512_reduce_min_ps, numbers(o, 0)),
    INTS(_mm512_or_si512, ints(o, 0), ints(o, 1)),
    REALS(_mm512_scalef_ps, reals(o, 0), exponents(o, 1)),
    INTS(_mm512_slli_epi32, ints(o, 0), 23),
    INTS(_mm512_sub_epi32, ints(o, 0), ints(o, 1)),
    REALS(_mm512_sub_ps, reals(o, 0), reals(o, 1)),
    INTS(_mm512_test_epi32_mask, ints(o, 0), ints(o, 1)),
    INTS(_mm512_xor_si512, ints(o, 0), ints(o, 1)),
    {"_mm_mask_storeu_epi8", false,
     [](const Operands& o, std::uint8_t* y) {
       _mm_mask_storeu_epi8(o.tail, static_cast<__mmask16>(o.tail_mask(1)), quarter(o, 0));
       put_tail(y, o);
     }},
    INTS(_mm_maskz_loadu_epi8, static_cast<__mmask16>(o.tail_mask(1)), o.tail),
};

}  // namespace

std::span<const Sample> avx512() { return kSamples; }

}  // namespace samples
