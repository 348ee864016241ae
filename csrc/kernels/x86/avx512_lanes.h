// kernels/lanes_scalar.h says what these are; here 16 floats of AVX-512.
#pragma once

#include "kernels/lanes_scalar.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

struct Lanes16 {
  __m512 v;
  Lanes16() = default;
  FASTMNIST_INLINE Lanes16(__m512 value) : v(value) {}  // NOLINT(google-explicit-constructor)
  FASTMNIST_INLINE explicit Lanes16(float value) : v(_mm512_set1_ps(value)) {}
};

template <>
constexpr int kLanesOf<Lanes16> = 16;
template <>
struct MaskOf<Lanes16> {
  using Type = __mmask16;
};

FASTMNIST_INLINE Lanes16 operator+(Lanes16 a, Lanes16 b) { return _mm512_add_ps(a.v, b.v); }
FASTMNIST_INLINE Lanes16 operator-(Lanes16 a, Lanes16 b) { return _mm512_sub_ps(a.v, b.v); }
FASTMNIST_INLINE Lanes16 operator*(Lanes16 a, Lanes16 b) { return _mm512_mul_ps(a.v, b.v); }
FASTMNIST_INLINE Lanes16 operator/(Lanes16 a, Lanes16 b) { return _mm512_div_ps(a.v, b.v); }
FASTMNIST_INLINE Lanes16 operator-(Lanes16 a) {
  return _mm512_castsi512_ps(
      _mm512_xor_si512(_mm512_castps_si512(a.v), _mm512_set1_epi32(INT32_MIN)));
}
FASTMNIST_INLINE __mmask16 operator<(Lanes16 a, Lanes16 b) {
  return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ);
}

FASTMNIST_INLINE Lanes16 fma(Lanes16 a, Lanes16 b, Lanes16 c) {
  return _mm512_fmadd_ps(a.v, b.v, c.v);
}
FASTMNIST_INLINE Lanes16 least(Lanes16 a, Lanes16 b) { return _mm512_min_ps(a.v, b.v); }
FASTMNIST_INLINE Lanes16 most(Lanes16 a, Lanes16 b) { return _mm512_max_ps(a.v, b.v); }
FASTMNIST_INLINE Lanes16 select(__mmask16 mask, Lanes16 yes, Lanes16 no) {
  return _mm512_mask_blend_ps(mask, no.v, yes.v);
}

FASTMNIST_INLINE Lanes16 magnitude(Lanes16 x) { return _mm512_abs_ps(x.v); }
FASTMNIST_INLINE Lanes16 with_sign(Lanes16 x, Lanes16 sign) {
  const __m512i bit = _mm512_and_si512(_mm512_castps_si512(sign.v), _mm512_set1_epi32(INT32_MIN));
  return _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(x.v), bit));
}

FASTMNIST_INLINE Lanes16 power_of_two(Lanes16 t) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(t.v), 23));
}

// VSCALEFPS: one rounding, as of two exact factors.
FASTMNIST_INLINE Lanes16 times_power(Lanes16 x, Lanes16 n, Lanes16 /*t*/) {
  return _mm512_scalef_ps(x.v, n.v);
}

template <>
FASTMNIST_INLINE __mmask16 first_lanes<Lanes16>(std::int64_t n) {
  return n < 16 ? static_cast<__mmask16>((1u << n) - 1) : static_cast<__mmask16>(0xffff);
}
template <>
FASTMNIST_INLINE Lanes16 load<Lanes16>(const float* p) {
  return _mm512_loadu_ps(p);
}
template <>
FASTMNIST_INLINE Lanes16 load<Lanes16>(const float* p, __mmask16 mask) {
  return _mm512_maskz_loadu_ps(mask, p);
}
FASTMNIST_INLINE void store(float* p, Lanes16 v) { _mm512_storeu_ps(p, v.v); }
FASTMNIST_INLINE void store(float* p, Lanes16 v, __mmask16 mask) {
  _mm512_mask_storeu_ps(p, mask, v.v);
}

}  // namespace
}  // namespace fastmnist
