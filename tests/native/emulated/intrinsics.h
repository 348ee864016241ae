// The intrinsics of kernels/x86/ for processors that lack them: SIMDe 0.7.4 (libsimde-dev), and
// below what it lacks or does in another way than the instruction:
//
//     fmadd                   rounds twice there
//     round to nearest        takes halves away from zero there, not to even
//     conversions to integers what is out of range is INT_MIN, and that is all that happens
//     scaling by powers of 2  goes by exp2 there, which need not be exact
//     absolute values         NaN and -0 keep their sign there
//     masked loads            read bytes there that the mask leaves out: they may not exist
//     aligned loads, stores   take any address there
//
// test_intrinsics.cpp holds all of them, SIMDe's and these, against what processors make. An
// intrinsic that a kernel takes into use gets a sample there.
#pragma once

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx2.h>
#include <simde/x86/avx512.h>
#include <simde/x86/fma.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "emulated/fault.h"

typedef simde__mmask16 __mmask16;
typedef simde__mmask32 __mmask32;
typedef simde__mmask64 __mmask64;

namespace fastmnist::emulated {

template <typename T, typename V>
using Lanes = std::array<T, sizeof(V) / sizeof(T)>;

template <typename T, typename V>
Lanes<T, V> lanes_of(const V& v) {
  return std::bit_cast<Lanes<T, V>>(v);
}

// ---- Arithmetic
// ----------------------------------------------------------------------------------

template <typename V>
V fmadd(V a, V b, V c) {
  const auto x = lanes_of<float>(a);
  const auto y = lanes_of<float>(b);
  auto sum = lanes_of<float>(c);
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] = std::fma(x[i], y[i], sum[i]);
  return std::bit_cast<V>(sum);
}

template <typename V>
V rounded_to_even(V a) {
  auto x = lanes_of<float>(a);
  for (float& v : x) v = std::nearbyint(v);
  return std::bit_cast<V>(x);
}

inline std::int32_t to_int32(float v) {
  constexpr float kEnd = 2147483648.0f;
  return v >= -kEnd && v < kEnd ? static_cast<std::int32_t>(std::nearbyint(v))
                                : std::numeric_limits<std::int32_t>::min();
}

template <typename Integers, typename Floats>
Integers cvtps_epi32(Floats a) {
  const auto x = lanes_of<float>(a);
  Lanes<std::int32_t, Integers> y;
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = to_int32(x[i]);
  return std::bit_cast<Integers>(y);
}

inline __m512 cvtepi32_ps(__m512i a) {
  const auto x = lanes_of<std::int32_t>(a);
  Lanes<float, __m512> y;
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = static_cast<float>(x[i]);
  return std::bit_cast<__m512>(y);
}

inline __m512i cvtepu8_epi32(__m128i a) {
  const auto x = lanes_of<std::uint8_t>(a);
  Lanes<std::uint32_t, __m512i> y;
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = x[i];
  return std::bit_cast<__m512i>(y);
}

inline __m128i cvtusepi32_epi8(__m512i a) {
  const auto x = lanes_of<std::uint32_t>(a);
  Lanes<std::uint8_t, __m128i> y;
  for (std::size_t i = 0; i < y.size(); ++i)
    y[i] = static_cast<std::uint8_t>(x[i] < 255u ? x[i] : 255u);
  return std::bit_cast<__m128i>(y);
}

// Clears the sign, whatever is behind it.
inline __m512 abs_ps(__m512 a) {
  auto x = lanes_of<std::uint32_t>(a);
  for (std::uint32_t& v : x) v &= 0x7fffffffu;
  return std::bit_cast<__m512>(x);
}

// By integers, which is all that kernels ask for. NaN stays one.
inline __m512 scalef_ps(__m512 a, __m512 exponents) {
  auto x = lanes_of<float>(a);
  const auto n = lanes_of<float>(exponents);
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = std::isnan(n[i]) ? n[i] : std::ldexp(x[i], static_cast<int>(n[i]));
  return std::bit_cast<__m512>(x);
}

// The instruction halves the vector, and halves it again: for minimum and maximum of numbers any
// order will do. (Of NaN it would not: kernels have none there.)
inline float reduce_min_ps(__m512 a) {
  const auto x = lanes_of<float>(a);
  float least = x[0];
  for (const float v : x) least = v < least ? v : least;
  return least;
}

inline float reduce_max_ps(__m512 a) {
  const auto x = lanes_of<float>(a);
  float most = x[0];
  for (const float v : x) most = v > most ? v : most;
  return most;
}

// Four unsigned times four signed bytes in each of four lanes.
inline __m128i products_of_four(__m128i unsigned_bytes, __m128i signed_bytes) {
  const __m128i low =
      _mm_madd_epi16(_mm_cvtepu8_epi16(unsigned_bytes), _mm_cvtepi8_epi16(signed_bytes));
  const __m128i high = _mm_madd_epi16(_mm_cvtepu8_epi16(_mm_srli_si128(unsigned_bytes, 8)),
                                      _mm_cvtepi8_epi16(_mm_srli_si128(signed_bytes, 8)));
  return _mm_hadd_epi32(low, high);
}

inline __m512i dpbusd_epi32(__m512i sums, __m512i unsigned_bytes, __m512i signed_bytes) {
  auto s = lanes_of<__m128i>(sums);
  const auto u = lanes_of<__m128i>(unsigned_bytes);
  const auto b = lanes_of<__m128i>(signed_bytes);
  for (std::size_t i = 0; i < s.size(); ++i)
    s[i] = _mm_add_epi32(s[i], products_of_four(u[i], b[i]));
  return std::bit_cast<__m512i>(s);
}

// ---- Masks
// ---------------------------------------------------------------------------------------

inline __mmask32 cmpeq_epi16_mask(__m512i a, __m512i b) {
  const auto x = lanes_of<std::int16_t>(a);
  const auto y = lanes_of<std::int16_t>(b);
  __mmask32 equal = 0;
  for (std::size_t i = 0; i < x.size(); ++i) equal |= static_cast<__mmask32>(x[i] == y[i]) << i;
  return equal;
}

// ---- Memory
// --------------------------------------------------------------------------------------

// Elements whose bit in the mask is 0 are not touched.
template <typename V, typename T>
V maskz_load(std::uint64_t mask, const T* from) {
  Lanes<T, V> v{};
  for (std::size_t i = 0; i < v.size(); ++i)
    if (((mask >> i) & 1u) != 0) std::memcpy(&v[i], from + i, sizeof(T));
  return std::bit_cast<V>(v);
}

template <typename T, typename V>
void mask_store(T* to, std::uint64_t mask, V a) {
  const auto v = lanes_of<T>(a);
  for (std::size_t i = 0; i < v.size(); ++i)
    if (((mask >> i) & 1u) != 0) std::memcpy(to + i, &v[i], sizeof(T));
}

// AVX's masks are the top bits of a vector's lanes.
inline std::uint64_t top_bits(__m256i mask) {
  std::uint64_t bits = 0;
  const auto lanes = lanes_of<std::uint32_t>(mask);
  for (std::size_t i = 0; i < lanes.size(); ++i) bits |= std::uint64_t{lanes[i] >> 31} << i;
  return bits;
}

inline __m512i maskz_expand_epi8(__mmask64 mask, __m512i a) {
  const auto x = lanes_of<std::uint8_t>(a);
  Lanes<std::uint8_t, __m512i> y{};
  std::size_t next = 0;
  for (std::size_t i = 0; i < y.size(); ++i)
    if (((mask >> i) & 1u) != 0) y[i] = x[next++];
  return std::bit_cast<__m512i>(y);
}

template <typename V>
V load_aligned(const void* from) {
  if (reinterpret_cast<std::uintptr_t>(from) % sizeof(V) != 0) fault("an aligned load is not");
  V v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <typename V>
void store_aligned(void* to, V v) {
  if (reinterpret_cast<std::uintptr_t>(to) % sizeof(V) != 0) fault("an aligned store is not");
  std::memcpy(to, &v, sizeof v);
}

inline const std::uint8_t* bytes(const void* p) { return static_cast<const std::uint8_t*>(p); }
inline std::uint8_t* bytes(void* p) { return static_cast<std::uint8_t*>(p); }
inline const float* floats(const void* p) { return static_cast<const float*>(p); }
inline float* floats(void* p) { return static_cast<float*>(p); }

}  // namespace fastmnist::emulated

// Over SIMDe's, which are macros, too.
#undef _cvtu64_mask64
#undef _mm256_cvtps_epi32
#undef _mm256_fmadd_ps
#undef _mm256_load_si256
#undef _mm256_maskload_ps
#undef _mm256_maskstore_ps
#undef _mm256_round_ps
#undef _mm256_store_si256
#undef _mm512_abs_ps
#undef _mm512_cmpeq_epi16_mask
#undef _mm512_cvtepi32_ps
#undef _mm512_cvtepu8_epi32
#undef _mm512_cvtps_epi32
#undef _mm512_cvtusepi32_epi8
#undef _mm512_dpbusd_epi32
#undef _mm512_fmadd_ps
#undef _mm512_load_si512
#undef _mm512_mask_cmp_ps_mask
#undef _mm512_mask_storeu_ps
#undef _mm512_maskz_expand_epi8
#undef _mm512_maskz_loadu_epi8
#undef _mm512_maskz_loadu_ps
#undef _mm512_reduce_max_ps
#undef _mm512_reduce_min_ps
#undef _mm512_scalef_ps
#undef _mm512_store_si512
#undef _mm_mask_storeu_epi8
#undef _mm_maskz_loadu_epi8

#define _cvtu64_mask64(bits) static_cast<__mmask64>(bits)
#define _mm256_cvtps_epi32(a) fastmnist::emulated::cvtps_epi32<__m256i>(a)
#define _mm256_fmadd_ps(a, b, c) fastmnist::emulated::fmadd<__m256>(a, b, c)
#define _mm256_load_si256(from) fastmnist::emulated::load_aligned<__m256i>(from)
#define _mm256_maskload_ps(from, mask) \
  fastmnist::emulated::maskz_load<__m256, float>(fastmnist::emulated::top_bits(mask), from)
#define _mm256_maskstore_ps(to, mask, a) \
  fastmnist::emulated::mask_store<float>(to, fastmnist::emulated::top_bits(mask), a)
#define _mm256_round_ps(a, mode)                                                     \
  ([](__m256 v) {                                                                    \
    static_assert(((mode)&7) == _MM_FROUND_TO_NEAREST_INT, "only this is emulated"); \
    return fastmnist::emulated::rounded_to_even(v);                                  \
  }(a))
#define _mm256_store_si256(to, a) fastmnist::emulated::store_aligned<__m256i>(to, a)
#define _mm512_abs_ps(a) fastmnist::emulated::abs_ps(a)
#define _mm512_cmpeq_epi16_mask(a, b) fastmnist::emulated::cmpeq_epi16_mask(a, b)
#define _mm512_cvtepi32_ps(a) fastmnist::emulated::cvtepi32_ps(a)
#define _mm512_cvtepu8_epi32(a) fastmnist::emulated::cvtepu8_epi32(a)
#define _mm512_cvtps_epi32(a) fastmnist::emulated::cvtps_epi32<__m512i>(a)
#define _mm512_cvtusepi32_epi8(a) fastmnist::emulated::cvtusepi32_epi8(a)
#define _mm512_dpbusd_epi32(s, a, b) fastmnist::emulated::dpbusd_epi32(s, a, b)
#define _mm512_fmadd_ps(a, b, c) fastmnist::emulated::fmadd<__m512>(a, b, c)
#define _mm512_load_si512(from) fastmnist::emulated::load_aligned<__m512i>(from)
#define _mm512_mask_cmp_ps_mask(k, a, b, op) \
  static_cast<__mmask16>((k)&_mm512_cmp_ps_mask(a, b, op))
#define _mm512_mask_storeu_ps(to, k, a) \
  fastmnist::emulated::mask_store(fastmnist::emulated::floats(to), k, a)
#define _mm512_maskz_expand_epi8(k, a) fastmnist::emulated::maskz_expand_epi8(k, a)
#define _mm512_maskz_loadu_epi8(k, from) \
  fastmnist::emulated::maskz_load<__m512i>(k, fastmnist::emulated::bytes(from))
#define _mm512_maskz_loadu_ps(k, from) \
  fastmnist::emulated::maskz_load<__m512>(k, fastmnist::emulated::floats(from))
#define _mm512_reduce_max_ps(a) fastmnist::emulated::reduce_max_ps(a)
#define _mm512_reduce_min_ps(a) fastmnist::emulated::reduce_min_ps(a)
#define _mm512_scalef_ps(a, n) fastmnist::emulated::scalef_ps(a, n)
#define _mm512_store_si512(to, a) fastmnist::emulated::store_aligned<__m512i>(to, a)
#define _mm_mask_storeu_epi8(to, k, a) \
  fastmnist::emulated::mask_store(fastmnist::emulated::bytes(to), k, a)
#define _mm_maskz_loadu_epi8(k, from) \
  fastmnist::emulated::maskz_load<__m128i>(k, fastmnist::emulated::bytes(from))
