// What functions.h and float_rows.h are written over: a few floats side by side, the *lanes* of one
// register, and the operations that every instruction set has for them. Here is the one that needs
// no instruction set, a float by itself; x86/avx2_lanes.h and x86/avx512_lanes.h say the same about
// 8 and 16. All of them give the same bits, so a function that is written once is too.
//
//     + - * /             rounded once each, as fma(a, b, c) is; -x changes the sign of NaN, too
//     least(a, b)         a < b ? a : b and
//     most(a, b)          a > b ? a : b: where either is NaN, b
//     a < b               a mask: for float, bool; select(mask, yes, no) takes lane by lane
//     magnitude(x), with_sign(x, sign)   of bits; x has none
//     power_of_two(t)     2^n for n from -126 to 127, where t is n + kPowerShift
//     times_power(x, n, t)    x * 2^n, rounded once, for n from -252 to 254 and x from 0.5 to 2,
//                             where t is n + kTimesPowerShift
//     first_lanes<V>(n)   the mask of the first n lanes, of all where there are fewer
//     load<V>(p), load<V>(p, mask), store(p, v), store(p, v, mask)   nothing is touched where the
//                         mask is off; loading gives 0 there
#pragma once

#include <cstdint>

#include "kernels/unroll.h"

namespace fastmnist {
namespace {

// 1.5 * 2^23, so that the sum with an integer has it in its last bits, and what exponents begin at.
constexpr float kPowerShift = 12582912.0f + 127.0f;
constexpr float kTimesPowerShift = 12582912.0f + 2 * 127.0f;

template <typename V>
constexpr int kLanesOf = 1;

template <typename V>
struct MaskOf {
  using Type = bool;
};
template <typename V>
using Mask = typename MaskOf<V>::Type;

FASTMNIST_INLINE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
FASTMNIST_INLINE float least(float a, float b) { return a < b ? a : b; }
FASTMNIST_INLINE float most(float a, float b) { return a > b ? a : b; }
FASTMNIST_INLINE float select(bool mask, float yes, float no) { return mask ? yes : no; }

FASTMNIST_INLINE std::uint32_t bits_of(float x) { return __builtin_bit_cast(std::uint32_t, x); }
FASTMNIST_INLINE float from_bits(std::uint32_t bits) { return __builtin_bit_cast(float, bits); }

FASTMNIST_INLINE float magnitude(float x) { return from_bits(bits_of(x) & 0x7fffffffu); }
FASTMNIST_INLINE float with_sign(float x, float sign) {
  return from_bits(bits_of(x) | (bits_of(sign) & 0x80000000u));
}

FASTMNIST_INLINE float power_of_two(float t) { return from_bits(bits_of(t) << 23); }

// By two factors, so that neither leaves the range of exponents and only the last product rounds.
FASTMNIST_INLINE float times_power(float x, float /*n*/, float t) {
  const std::uint32_t half = bits_of(t) >> 1;
  const float first = from_bits(half << 23);
  const float second = from_bits((bits_of(t) - half) << 23);
  return x * first * second;
}

template <typename V>
FASTMNIST_INLINE Mask<V> first_lanes(std::int64_t n);
template <typename V>
FASTMNIST_INLINE V load(const float* p);
template <typename V>
FASTMNIST_INLINE V load(const float* p, Mask<V> mask);

template <>
FASTMNIST_INLINE bool first_lanes<float>(std::int64_t n) {
  return n > 0;
}
template <>
FASTMNIST_INLINE float load<float>(const float* p) {
  return *p;
}
template <>
FASTMNIST_INLINE float load<float>(const float* p, bool mask) {
  return mask ? *p : 0.0f;
}
FASTMNIST_INLINE void store(float* p, float v) { *p = v; }
FASTMNIST_INLINE void store(float* p, float v, bool mask) {
  if (mask) *p = v;
}

}  // namespace
}  // namespace fastmnist
