// exp, expm1 and log1p over lanes (lanes_scalar.h), which functions.h is made of. Coefficients are
// those of least largest error, relative to the result.
#pragma once

#include <cstdint>

#include "kernels/lanes_scalar.h"

namespace fastmnist {
namespace {

constexpr float kLog2E = 0x1.715476p+0f;
// log(2) in two parts. A product of the first with up to 8 bits, less what is near it, is exact in
// an fma.
constexpr float kLog2High = 0x1.62e43p-1f;
constexpr float kLog2Low = -0x1.05c61p-29f;

// c0 + c1 x + c2 x^2 + ...
template <typename V>
FASTMNIST_INLINE V polynomial(V /*x*/, float last) {
  return V(last);
}
template <typename V, typename... Rest>
FASTMNIST_INLINE V polynomial(V x, float first, Rest... rest) {
  return fma(polynomial(x, rest...), x, V(first));
}

// exp(z + rest) for z up to 88 and a rest far below z's last place but one, or none. With
// n = rne(z / log(2)) it is 2^n * exp(r), r from -log(2) / 2 to log(2) / 2: there 1 + r + r^2 q(r).
template <typename V, typename... Rest>
FASTMNIST_INLINE V exp_of(V z, Rest... rest) {
  z = most(V(-104.0f), z);  // whose exp rounds to 0
  const V t = fma(z, V(kLog2E), V(kTimesPowerShift));
  const V n = t - V(kTimesPowerShift);
  const V r = (fma(n, V(-kLog2Low), fma(n, V(-kLog2High), z)) + ... + rest);
  const V q = polynomial(r, 0x1.fffffcp-2f, 0x1.55548ap-3f, 0x1.555916p-5f, 0x1.123fc6p-7f,
                         0x1.6a1a6ep-10f);
  return times_power(V(1.0f) + fma(r * r, q, r), n, t);
}

// exp(z) - 1 for z up to 0, near which it is as exact: 2^n * expm1(r) + (2^n - 1).
template <typename V>
FASTMNIST_INLINE V expm1_of(V z) {
  z = most(V(-20.0f), z);  // whose exp is less than half a unit in the last place of 1
  const V t = fma(z, V(kLog2E), V(kPowerShift));
  const V n = t - V(kPowerShift);
  const V r = fma(n, V(-kLog2Low), fma(n, V(-kLog2High), z));
  const V q = polynomial(r, 0x1p-1f, 0x1.555554p-3f, 0x1.5554aap-5f, 0x1.11118ep-7f,
                         0x1.6d78dap-10f, 0x1.a03334p-13f);
  const V power = power_of_two(t);
  return fma(fma(r * r, q, r), power, power - V(1.0f));
}

// log((1 + s) / (1 - s)) for s from -1/3 to 1/3.
template <typename V>
FASTMNIST_INLINE V log_of_ratio(V s) {
  const V s2 = s * s;
  const V p =
      polynomial(s2, 0x1.555558p-1f, 0x1.9996bp-2f, 0x1.2508bp-2f, 0x1.b6e6dap-3f, 0x1.f1730ep-3f);
  return fma(s * s2, p, s + s);
}

// log(1 + e) for e from 0 to 1.
template <typename V>
FASTMNIST_INLINE V log1p_of(V e) {
  return log_of_ratio(e / (V(2.0f) + e));
}

// log(y) for a normal y: y = 2^n f, f from sqrt(1/2) to sqrt(2). NaN gives NaN.
FASTMNIST_INLINE float log_of(float y) {
  const auto above = static_cast<std::int32_t>(bits_of(y) - 0x3f3504f3u);
  const std::int32_t n = above >> 23;
  const float f = from_bits(bits_of(y) - (static_cast<std::uint32_t>(n) << 23));
  const float log_f = log_of_ratio((f - 1.0f) / (f + 1.0f));
  const auto scale = static_cast<float>(n);
  const float log_y = fma(scale, kLog2High, fma(scale, kLog2Low, log_f));
  return y == y ? log_y : y;
}

}  // namespace
}  // namespace fastmnist
