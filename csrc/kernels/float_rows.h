// Loops over rows of floats, and FloatKernels made of them for one kind of lanes (lanes_scalar.h).
//
// Sums have one order for all instruction sets: 16 partial sums, value i added to i mod 16, in
// ascending order; then 8 and 8, 4 and 4, 2 and 2, 1 and 1 are added. So a register of 16 lanes
// holds them, or two of 8, or 16 of one.
#pragma once

#include "core/types.h"
#include "kernels/functions.h"

namespace fastmnist {
namespace {

constexpr std::int64_t kPartialSums = 16;

// y[i] = f(x[i], ...), two registers at a time.
template <typename V, typename F, typename... X>
FASTMNIST_INLINE void over_row(std::int64_t n, float* y, const F& f, const X*... x) {
  constexpr std::int64_t kCount = kLanesOf<V>;
  std::int64_t i = 0;
  for (; i + 2 * kCount <= n; i += 2 * kCount) {
    const V first = f(load<V>(x + i)...);
    const V second = f(load<V>(x + i + kCount)...);
    store(y + i, first);
    store(y + i + kCount, second);
  }
  for (; i < n; i += kCount) {
    const Mask<V> on = first_lanes<V>(n - i);
    store(y + i, f(load<V>(x + i, on)...), on);
  }
}

// The sum of values(x[i]) over a row; keep(i, values, mask or nothing) may store them.
template <typename V, typename Values, typename Keep>
FASTMNIST_INLINE float sum_of(const float* x, std::int64_t n, const Values& values,
                              const Keep& keep) {
  constexpr int kCount = kLanesOf<V>;
  constexpr int kParts = kPartialSums / kCount;
  V sums[kParts];
  unrolled<kParts>([&](auto j) FASTMNIST_INLINE_BODY { sums[j] = V(0.0f); });
  std::int64_t i = 0;
  for (; i + kPartialSums <= n; i += kPartialSums)
    unrolled<kParts>([&](auto j) FASTMNIST_INLINE_BODY {
      const V v = values(load<V>(x + i + j * kCount));
      keep(i + j * kCount, v);
      sums[j] = sums[j] + v;
    });
  unrolled<kParts>([&](auto j) FASTMNIST_INLINE_BODY {
    const std::int64_t at = i + j * kCount;
    if (at < n) {
      const Mask<V> on = first_lanes<V>(n - at);
      const V v = values(load<V>(x + at, on));
      keep(at, v, on);
      sums[j] = sums[j] + select(on, v, V(0.0f));
    }
  });
  alignas(64) float t[kPartialSums];
  unrolled<kParts>([&](auto j) FASTMNIST_INLINE_BODY { store(t + j * kCount, sums[j]); });
  for (std::int64_t half = kPartialSums / 2; half > 0; half /= 2)
    for (std::int64_t k = 0; k < half; ++k) t[k] += t[k + half];
  return t[0];
}

struct KeepNothing {
  template <typename... Anything>
  FASTMNIST_INLINE void operator()(const Anything&...) const {}
};

// The largest number; -inf where there is none.
template <typename V>
FASTMNIST_INLINE float largest(const float* x, std::int64_t n) {
  constexpr std::int64_t kCount = kLanesOf<V>;
  V top = V(-kInfinity);
  std::int64_t i = 0;
  for (; i + kCount <= n; i += kCount) top = most(load<V>(x + i), top);
  if (i < n) {
    const Mask<V> on = first_lanes<V>(n - i);
    top = most(select(on, load<V>(x + i, on), V(-kInfinity)), top);
  }
  alignas(64) float lanes[kCount];
  store(lanes, top);
  float found = lanes[0];
  for (std::int64_t k = 1; k < kCount; ++k) found = most(lanes[k], found);
  return found;
}

template <typename V>
void activate(const float* x, std::int64_t n, const Activation& activation, float* y) {
  with_function<V>(activation, [&](const auto& f) { over_row<V>(n, y, f, x); });
}

using Quantize = bool (*)(const float* x, std::int64_t n, Quantizer quantizer, std::uint8_t* q);

// A few hundred results at a time, which stay in the first-level cache.
template <typename V, Quantize QUANTIZE>
bool activate_codes(const float* x, std::int64_t n, const Activation& activation,
                    const Quantizer& quantizer, std::uint8_t* q) {
  constexpr std::int64_t kChunk = 512;
  alignas(64) float results[kChunk];
  bool any_nan = false;
  with_function<V>(activation, [&](const auto& f) {
    for (std::int64_t i = 0; i < n; i += kChunk) {
      const std::int64_t count = n - i < kChunk ? n - i : kChunk;
      over_row<V>(count, results, f, x + i);
      any_nan |= QUANTIZE(results, count, quantizer, q + i);
    }
  });
  return any_nan;
}

template <typename V>
void clamp_row(const float* x, std::int64_t n, const Clamp& bounds, float* y) {
  const V lo(bounds.lo);
  const V hi(bounds.hi);
  over_row<V>(
      n, y, [=](V v) FASTMNIST_INLINE_BODY { return least(hi, most(lo, v)); }, x);
}

template <typename V>
void slopes_row(const float* x, std::int64_t n, const float* slopes, float* y) {
  over_row<V>(n, y, Slopes<V>(), x, slopes);
}

template <typename V>
void affine_row(const float* x, std::int64_t n, const float* multiplier, const float* offset,
                float* y) {
  over_row<V>(
      n, y, [](V v, V m, V o) FASTMNIST_INLINE_BODY { return fma(v, m, o); }, x, multiplier,
      offset);
}

template <typename V>
void add_rows(const float* a, const float* b, std::int64_t n, float* y) {
  over_row<V>(
      n, y, [](V v, V w) FASTMNIST_INLINE_BODY { return v + w; }, a, b);
}
template <typename V>
void subtract_rows(const float* a, const float* b, std::int64_t n, float* y) {
  over_row<V>(
      n, y, [](V v, V w) FASTMNIST_INLINE_BODY { return v - w; }, a, b);
}
template <typename V>
void multiply_rows(const float* a, const float* b, std::int64_t n, float* y) {
  over_row<V>(
      n, y, [](V v, V w) FASTMNIST_INLINE_BODY { return v * w; }, a, b);
}
template <typename V>
void divide_rows(const float* a, const float* b, std::int64_t n, float* y) {
  over_row<V>(
      n, y, [](V v, V w) FASTMNIST_INLINE_BODY { return v / w; }, a, b);
}

// exp(x - m) / sum, m the largest. As torch's, a row with NaN or +inf, or of -inf alone, is NaN.
template <typename V>
void softmax(const float* x, std::int64_t n, float* y) {
  const V top(largest<V>(x, n));
  const auto shifted_exp = [=](V v) FASTMNIST_INLINE_BODY { return exp_of(v - top); };
  const auto keep = [=](std::int64_t i, V v, auto... mask)
                        FASTMNIST_INLINE_BODY { store(y + i, v, mask...); };
  const V sum(sum_of<V>(x, n, shifted_exp, keep));
  over_row<V>(
      n, y, [=](V v) FASTMNIST_INLINE_BODY { return v / sum; }, y);
}

// (x - m) - log(sum of exp(x - m)).
template <typename V>
void log_softmax(const float* x, std::int64_t n, float* y) {
  const V top(largest<V>(x, n));
  const auto shifted_exp = [=](V v) FASTMNIST_INLINE_BODY { return exp_of(v - top); };
  const V rest(log_of(sum_of<V>(x, n, shifted_exp, KeepNothing())));
  over_row<V>(
      n, y, [=](V v) FASTMNIST_INLINE_BODY { return (v - top) - rest; }, x);
}

// fma((x - mean) * (1 / sqrt(variance + epsilon)), weight, bias), the variance of the differences.
template <typename V>
void layer_norm(const float* x, std::int64_t n, const float* weight, const float* bias,
                float epsilon, float* y) {
  const auto count = static_cast<float>(n);
  const V mean(sum_of<V>(
                   x, n, [](V v) FASTMNIST_INLINE_BODY { return v; }, KeepNothing()) /
               count);
  const auto square = [=](V v) FASTMNIST_INLINE_BODY { return (v - mean) * (v - mean); };
  const float variance = sum_of<V>(x, n, square, KeepNothing()) / count;
  const V scale(1.0f / __builtin_sqrtf(variance + epsilon));
  const auto norm = [=](V v, V w, V b)
                        FASTMNIST_INLINE_BODY { return fma((v - mean) * scale, w, b); };
  const V one(1.0f);
  const V zero(0.0f);
  if (weight != nullptr && bias != nullptr)
    over_row<V>(n, y, norm, x, weight, bias);
  else if (weight != nullptr)
    over_row<V>(
        n, y, [=](V v, V w) FASTMNIST_INLINE_BODY { return norm(v, w, zero); }, x, weight);
  else if (bias != nullptr)
    over_row<V>(
        n, y, [=](V v, V b) FASTMNIST_INLINE_BODY { return norm(v, one, b); }, x, bias);
  else
    over_row<V>(
        n, y, [=](V v) FASTMNIST_INLINE_BODY { return norm(v, one, zero); }, x);
}

template <typename V, Quantize QUANTIZE>
constexpr FloatKernels kFloatKernelsOf = {activate<V>,      activate_codes<V, QUANTIZE>,
                                          clamp_row<V>,     slopes_row<V>,
                                          affine_row<V>,    add_rows<V>,
                                          subtract_rows<V>, multiply_rows<V>,
                                          divide_rows<V>,   softmax<V>,
                                          log_softmax<V>,   layer_norm<V>};

}  // namespace
}  // namespace fastmnist
