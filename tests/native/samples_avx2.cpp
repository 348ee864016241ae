#include <cstring>

#include "instruction_samples.h"
#include "kernels/x86/intrinsics.h"

namespace samples {
namespace {

__m128i half(const Operands& o, int i) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(o.vectors[i]));
}
__m256i ints(const Operands& o, int i) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(o.vectors[i]));
}
__m256 reals(const Operands& o, int i) { return _mm256_castsi256_ps(ints(o, i)); }

template <typename Result>
void put(std::uint8_t* result, const Result& value) {
  std::memcpy(result, &value, sizeof value);
}

// Top bits as the tail's mask says, the others as they come.
__m256i tail_lanes(const Operands& o) {
  std::uint32_t lanes[8];
  std::memcpy(lanes, o.vectors[2], sizeof lanes);
  for (int i = 0; i < 8; ++i) {
    const bool on = ((o.tail_mask(4) >> i) & 1u) != 0;
    lanes[i] = (lanes[i] & 0x7fffffffu) | (on ? 0x80000000u : 0u);
  }
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(lanes));
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
    INTS(_mm256_abs_epi8, ints(o, 0)),
    INTS(_mm256_add_epi16, ints(o, 0), ints(o, 1)),
    INTS(_mm256_add_epi32, ints(o, 0), ints(o, 1)),
    REALS(_mm256_add_ps, reals(o, 0), reals(o, 1)),
    INTS(_mm256_adds_epi16, ints(o, 0), ints(o, 1)),
    INTS(_mm256_adds_epu8, ints(o, 0), ints(o, 1)),
    INTS(_mm256_and_ps, reals(o, 0), reals(o, 1)),
    INTS(_mm256_and_si256, ints(o, 0), ints(o, 1)),
    INTS(_mm256_andnot_si256, ints(o, 0), ints(o, 1)),
    INTS(_mm256_blendv_epi8, ints(o, 0), ints(o, 1), ints(o, 2)),
    INTS(_mm256_blendv_ps, reals(o, 0), reals(o, 1), reals(o, 2)),
    INTS(_mm256_broadcastd_epi32, half(o, 0)),
    INTS(_mm256_broadcastq_epi64, half(o, 0)),
    INTS(_mm256_broadcastsi128_si256, half(o, 0)),
    INTS(_mm256_cmp_ps, reals(o, 0), reals(o, 1), _CMP_LT_OQ),
    {"_mm256_cmp_ps", false,
     [](const Operands& o, std::uint8_t* y) {
       put(y, _mm256_cmp_ps(reals(o, 0), reals(o, 1), _CMP_UNORD_Q));
     }},
    INTS(_mm256_cmpeq_epi16, ints(o, 0), ints(o, 1)),
    INTS(_mm256_cmpeq_epi32, ints(o, 0), ints(o, 1)),
    INTS(_mm256_cmpeq_epi8, ints(o, 0), ints(o, 1)),
    INTS(_mm256_cmpgt_epi32, ints(o, 0), ints(o, 1)),
    REALS(_mm256_cvtepi32_ps, ints(o, 0)),
    INTS(_mm256_cvtepi8_epi16, half(o, 0)),
    INTS(_mm256_cvtepu8_epi16, half(o, 0)),
    INTS(_mm256_cvtepu8_epi32, half(o, 0)),
    INTS(_mm256_cvtps_epi32, reals(o, 0)),
    REALS(_mm256_div_ps, reals(o, 0), reals(o, 1)),
    INTS(_mm256_extracti128_si256, ints(o, 0), 1),
    REALS(_mm256_fmadd_ps, reals(o, 0), reals(o, 1), reals(o, 2)),
    INTS(_mm256_hadd_epi32, ints(o, 0), ints(o, 1)),
    INTS(_mm256_inserti128_si256, ints(o, 0), half(o, 1), 1),
    INTS(_mm256_madd_epi16, ints(o, 0), ints(o, 1)),
    INTS(_mm256_maddubs_epi16, ints(o, 0), ints(o, 1)),
    INTS(_mm256_maskload_ps, reinterpret_cast<const float*>(o.tail), tail_lanes(o)),
    {"_mm256_maskstore_ps", false,
     [](const Operands& o, std::uint8_t* y) {
       _mm256_maskstore_ps(reinterpret_cast<float*>(o.tail), tail_lanes(o), reals(o, 0));
       std::memcpy(y, o.tail, static_cast<std::size_t>(o.tail_bytes));
     }},
    INTS(_mm256_max_epi16, ints(o, 0), ints(o, 1)),
    INTS(_mm256_max_epi32, ints(o, 0), ints(o, 1)),
    REALS(_mm256_max_ps, reals(o, 0), reals(o, 1)),
    INTS(_mm256_min_epi16, ints(o, 0), ints(o, 1)),
    INTS(_mm256_min_epi32, ints(o, 0), ints(o, 1)),
    REALS(_mm256_min_ps, reals(o, 0), reals(o, 1)),
    INTS(_mm256_movemask_epi8, ints(o, 0)),
    INTS(_mm256_movemask_ps, reals(o, 0)),
    REALS(_mm256_mul_ps, reals(o, 0), reals(o, 1)),
    INTS(_mm256_mullo_epi32, ints(o, 0), ints(o, 1)),
    INTS(_mm256_or_ps, reals(o, 0), reals(o, 1)),
    INTS(_mm256_or_si256, ints(o, 0), ints(o, 1)),
    INTS(_mm256_packs_epi16, ints(o, 0), ints(o, 1)),
    INTS(_mm256_packs_epi32, ints(o, 0), ints(o, 1)),
    INTS(_mm256_packus_epi16, ints(o, 0), ints(o, 1)),
    INTS(_mm256_packus_epi32, ints(o, 0), ints(o, 1)),
    INTS(_mm256_permute2x128_si256, ints(o, 0), ints(o, 1), 0x21),
    INTS(_mm256_permute4x64_epi64, ints(o, 0), 0xd8),
    INTS(_mm256_permutevar8x32_epi32, ints(o, 0), ints(o, 1)),
    REALS(_mm256_round_ps, reals(o, 0), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
    INTS(_mm256_shuffle_epi32, ints(o, 0), 0x4e),
    INTS(_mm256_shuffle_epi8, ints(o, 0), ints(o, 1)),
    INTS(_mm256_slli_epi16, ints(o, 0), 8),
    INTS(_mm256_slli_epi32, ints(o, 0), 24),
    INTS(_mm256_srai_epi16, ints(o, 0), 8),
    INTS(_mm256_srai_epi32, ints(o, 0), 24),
    INTS(_mm256_srli_epi16, ints(o, 0), 8),
    INTS(_mm256_srli_epi32, ints(o, 0), 24),
    INTS(_mm256_sub_epi16, ints(o, 0), ints(o, 1)),
    INTS(_mm256_sub_epi32, ints(o, 0), ints(o, 1)),
    INTS(_mm256_sub_epi8, ints(o, 0), ints(o, 1)),
    REALS(_mm256_sub_ps, reals(o, 0), reals(o, 1)),
    INTS(_mm256_testz_si256, ints(o, 0), ints(o, 1)),
    INTS(_mm256_unpackhi_epi16, ints(o, 0), ints(o, 1)),
    INTS(_mm256_unpackhi_epi8, ints(o, 0), ints(o, 1)),
    INTS(_mm256_unpacklo_epi16, ints(o, 0), ints(o, 1)),
    INTS(_mm256_unpacklo_epi8, ints(o, 0), ints(o, 1)),
    INTS(_mm256_xor_ps, reals(o, 0), reals(o, 1)),
    INTS(_mm256_xor_si256, ints(o, 0), ints(o, 1)),
    INTS(_mm_add_epi16, half(o, 0), half(o, 1)),
    INTS(_mm_cvtepu8_epi16, half(o, 0)),
    INTS(_mm_packus_epi16, half(o, 0), half(o, 1)),
    INTS(_mm_packus_epi32, half(o, 0), half(o, 1)),
    INTS(_mm_shuffle_epi32, half(o, 0), 0x4e),
};

}  // namespace

std::span<const Sample> avx2() { return kSamples; }

}  // namespace samples
