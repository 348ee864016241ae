// From exact sums to outputs, for the AVX-512 and AMX kernels: in an anonymous namespace, so that
// each file keeps a copy of its own. (saturation.h has what all x86 kernels share.)
#pragma once

#include "core/types.h"
#include "kernels/x86/intrinsics.h"
#include "kernels/x86/saturation.h"

namespace fastmnist {
namespace {

constexpr std::int64_t kLanes = 16;

inline __mmask16 lanes(std::int64_t n) {
  return n >= kLanes ? __mmask16{0xffff}
         : n <= 0    ? __mmask16{0}
                     : static_cast<__mmask16>((1u << n) - 1u);
}

// Float to integer, nearest even; beyond 512 anything is as good, as codes end at 255. NaN and what
// is below int32 become INT_MIN, which ends as code 0. (Compared as integers, floats above 0 keep
// their order and all below are smaller, so one integer instruction serves as bound.)
inline __m512i rounded(__m512 v) {
  const __m512i bits = _mm512_min_epi32(_mm512_castps_si512(v), _mm512_set1_epi32(0x44000000));
  return _mm512_cvtps_epi32(_mm512_castsi512_ps(bits));
}

// One panel's constants for one quantizer of the inputs.
struct PanelConstants {
  __m512 scale;
  __m512 bias;
  __m512i correction;  // zero point times the sum of weights
};

inline PanelConstants constants_of(const Weights& w, std::int64_t panel, const Quantizer& q) {
  const auto& e = *reinterpret_cast<const PanelEpilogue*>(w.epilogues + panel * w.epilogue_stride);
  return {_mm512_mul_ps(_mm512_set1_ps(q.scale), _mm512_loadu_ps(e.scale)), _mm512_loadu_ps(e.bias),
          _mm512_mullo_epi32(_mm512_loadu_si512(e.weight_sum), _mm512_set1_epi32(q.zero_point))};
}

inline __m512 real_of_centered(__m512i acc, const PanelConstants& c) {
  return _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc), c.scale, c.bias);
}

inline __m512 real(__m512i acc, const PanelConstants& c) {
  return real_of_centered(_mm512_sub_epi32(acc, c.correction), c);
}

inline __m512 clamped(__m512 y, const Clamp& clamp) {
  return _mm512_min_ps(_mm512_set1_ps(clamp.hi), _mm512_max_ps(_mm512_set1_ps(clamp.lo), y));
}

// Codes in 32-bit lanes, still without zero point and bounds: packing adds them.
template <Output O>
inline __m512i codes(__m512 y, const LinearArgs& args) {
  const __m512 inv_scale = _mm512_set1_ps(args.y_quantizer.inv_scale);
  if constexpr (O == Output::kSaturate)
    return _mm512_cvtps_epi32(_mm512_mul_ps(y, inv_scale));
  else
    return rounded(_mm512_mul_ps(clamped(y, args.clamp), inv_scale));
}

// What two rounds of packing left in turns of four.
inline __m512i in_order(__m512i packed) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order, packed);
}

// Four vectors of codes to 64 bytes in order: zero point added, all bounded by saturation.
template <Output O>
inline __m512i pack_codes(__m512i a, __m512i b, __m512i c, __m512i d, __m512i zero_point) {
  __m512i ab = _mm512_packs_epi32(a, b);
  __m512i cd = _mm512_packs_epi32(c, d);
  if constexpr (O != Output::kSaturate) {  // there it is 0
    ab = _mm512_adds_epi16(ab, zero_point);
    cd = _mm512_adds_epi16(cd, zero_point);
  }
  return in_order(_mm512_packus_epi16(ab, cd));
}

// As pack_codes takes it.
inline __m512i packed_zero_point(const Quantizer& quantizer) {
  return _mm512_set1_epi16(static_cast<short>(quantizer.zero_point));
}

// Codes of up to 16 values to bytes.
inline void store_codes(std::uint8_t* q, __mmask16 on, __m512i codes, const Quantizer& quantizer) {
  const __m512i sum = _mm512_add_epi32(codes, _mm512_set1_epi32(quantizer.zero_point));
  _mm_mask_storeu_epi8(q, on,
                       _mm512_cvtusepi32_epi8(_mm512_max_epi32(sum, _mm512_setzero_si512())));
}

// One row's outputs of one panel: `n` of them are left in the row from `at` on.
template <Output O>
inline void store(const LinearArgs& args, std::int64_t at, __m512 y, std::int64_t n) {
  if constexpr (O == Output::kFloats) {
    _mm512_mask_storeu_ps(static_cast<float*>(args.y) + at, lanes(n), clamped(y, args.clamp));
  } else {
    store_codes(static_cast<std::uint8_t*>(args.y) + at, lanes(n), codes<O>(y, args),
                args.y_quantizer);
  }
}

}  // namespace
}  // namespace fastmnist
