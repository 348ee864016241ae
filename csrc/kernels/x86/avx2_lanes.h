// kernels/lanes_scalar.h says what these are; here 8 floats of AVX2.
#pragma once

#include "kernels/lanes_scalar.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

struct Lanes8 {
  __m256 v;
  Lanes8() = default;
  FASTMNIST_INLINE Lanes8(__m256 value) : v(value) {}  // NOLINT(google-explicit-constructor)
  FASTMNIST_INLINE explicit Lanes8(float value) : v(_mm256_set1_ps(value)) {}
};

struct Mask8 {
  __m256 v;
};

template <>
constexpr int kLanesOf<Lanes8> = 8;
template <>
struct MaskOf<Lanes8> {
  using Type = Mask8;
};

FASTMNIST_INLINE Lanes8 operator+(Lanes8 a, Lanes8 b) { return _mm256_add_ps(a.v, b.v); }
FASTMNIST_INLINE Lanes8 operator-(Lanes8 a, Lanes8 b) { return _mm256_sub_ps(a.v, b.v); }
FASTMNIST_INLINE Lanes8 operator*(Lanes8 a, Lanes8 b) { return _mm256_mul_ps(a.v, b.v); }
FASTMNIST_INLINE Lanes8 operator/(Lanes8 a, Lanes8 b) { return _mm256_div_ps(a.v, b.v); }
FASTMNIST_INLINE Lanes8 operator-(Lanes8 a) { return _mm256_xor_ps(a.v, _mm256_set1_ps(-0.0f)); }
FASTMNIST_INLINE Mask8 operator<(Lanes8 a, Lanes8 b) {
  return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)};
}

FASTMNIST_INLINE Lanes8 fma(Lanes8 a, Lanes8 b, Lanes8 c) { return _mm256_fmadd_ps(a.v, b.v, c.v); }
FASTMNIST_INLINE Lanes8 least(Lanes8 a, Lanes8 b) { return _mm256_min_ps(a.v, b.v); }
FASTMNIST_INLINE Lanes8 most(Lanes8 a, Lanes8 b) { return _mm256_max_ps(a.v, b.v); }
FASTMNIST_INLINE Lanes8 select(Mask8 mask, Lanes8 yes, Lanes8 no) {
  return _mm256_blendv_ps(no.v, yes.v, mask.v);
}

FASTMNIST_INLINE Lanes8 magnitude(Lanes8 x) {
  return _mm256_and_ps(x.v, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff)));
}
FASTMNIST_INLINE Lanes8 with_sign(Lanes8 x, Lanes8 sign) {
  return _mm256_or_ps(x.v, _mm256_and_ps(sign.v, _mm256_set1_ps(-0.0f)));
}

FASTMNIST_INLINE Lanes8 power_of_two(Lanes8 t) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(t.v), 23));
}

FASTMNIST_INLINE Lanes8 times_power(Lanes8 x, Lanes8 /*n*/, Lanes8 t) {
  const __m256i bits = _mm256_castps_si256(t.v);
  const __m256i half = _mm256_srli_epi32(bits, 1);
  const __m256i rest = _mm256_sub_epi32(bits, half);
  const Lanes8 first = _mm256_castsi256_ps(_mm256_slli_epi32(half, 23));
  const Lanes8 second = _mm256_castsi256_ps(_mm256_slli_epi32(rest, 23));
  return x * first * second;
}

template <>
FASTMNIST_INLINE Mask8 first_lanes<Lanes8>(std::int64_t n) {
  const int count = n < 8 ? static_cast<int>(n) : 8;
  const __m256i on =
      _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  return {_mm256_castsi256_ps(on)};
}
template <>
FASTMNIST_INLINE Lanes8 load<Lanes8>(const float* p) {
  return _mm256_loadu_ps(p);
}
template <>
FASTMNIST_INLINE Lanes8 load<Lanes8>(const float* p, Mask8 mask) {
  return _mm256_maskload_ps(p, _mm256_castps_si256(mask.v));
}
FASTMNIST_INLINE void store(float* p, Lanes8 v) { _mm256_storeu_ps(p, v.v); }
FASTMNIST_INLINE void store(float* p, Lanes8 v, Mask8 mask) {
  _mm256_maskstore_ps(p, _mm256_castps_si256(mask.v), v.v);
}

}  // namespace
}  // namespace fastmnist
