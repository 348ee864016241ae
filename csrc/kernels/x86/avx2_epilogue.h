// From exact sums to outputs, for the AVX2 kernels: in an anonymous namespace, so that each file
// keeps a copy of its own. (saturation.h has what all x86 kernels share.)
#pragma once

#include "core/types.h"
#include "kernels/unroll.h"
#include "kernels/x86/intrinsics.h"
#include "kernels/x86/saturation.h"

namespace fastmnist {
namespace {

constexpr std::int64_t kLanes = 8;

// Lanes 0..n-1 on, 0 <= n <= 8.
inline __m256i lanes(std::int64_t n) {
  const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), index);
}

inline __m256i load_bytes(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

// Float to integer, nearest even; beyond 512 anything is as good, as codes end at 255. (Compared as
// integers, floats above 0 keep their order and all below are smaller.) What is below int32 becomes
// INT_MIN, which ends as code 0.
inline __m256i rounded(__m256 v) {
  const __m256i bits = _mm256_min_epi32(_mm256_castps_si256(v), _mm256_set1_epi32(0x44000000));
  return _mm256_cvtps_epi32(_mm256_castsi256_ps(bits));
}

// One panel's half, 8 outputs, for one quantizer of the inputs.
struct HalfConstants {
  __m256 scale;
  __m256 bias;
  __m256i correction;  // zero point times the sum of weights
};

inline HalfConstants constants_of(const Weights& w, std::int64_t first, const Quantizer& q) {
  const auto& e = *reinterpret_cast<const PanelEpilogue*>(w.epilogues + first / kPanelOutputs *
                                                                            w.epilogue_stride);
  const std::int64_t j = first % kPanelOutputs;
  return {_mm256_mul_ps(_mm256_set1_ps(q.scale), _mm256_loadu_ps(e.scale + j)),
          _mm256_loadu_ps(e.bias + j),
          _mm256_mullo_epi32(load_bytes(e.weight_sum + j), _mm256_set1_epi32(q.zero_point))};
}

inline __m256 real(__m256i acc, const HalfConstants& c) {
  return _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(acc, c.correction)), c.scale, c.bias);
}

inline __m256 clamped(__m256 y, const Clamp& clamp) {
  return _mm256_min_ps(_mm256_set1_ps(clamp.hi), _mm256_max_ps(_mm256_set1_ps(clamp.lo), y));
}

// Codes in 32-bit lanes, still without zero point and bounds: packing adds them.
template <Output O>
inline __m256i codes(__m256 y, const LinearArgs& args) {
  const __m256 inv_scale = _mm256_set1_ps(args.y_quantizer.inv_scale);
  if constexpr (O == Output::kSaturate)
    return _mm256_cvtps_epi32(_mm256_mul_ps(y, inv_scale));
  else
    return rounded(_mm256_mul_ps(clamped(y, args.clamp), inv_scale));
}

// As pack_codes takes it.
inline __m256i packed_zero_point(const Quantizer& quantizer) {
  return _mm256_set1_epi16(static_cast<short>(quantizer.zero_point));
}

// Two vectors of codes to 16 bytes in order: zero point added, all bounded by saturation.
template <Output O>
inline __m128i pack_codes(__m256i a, __m256i b, __m256i zero_point) {
  __m256i words = _mm256_packs_epi32(a, b);
  if constexpr (O != Output::kSaturate) words = _mm256_adds_epi16(words, zero_point);
  const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packus_epi16(words, words), 0xd8);
  return _mm_shuffle_epi32(_mm256_castsi256_si128(bytes), 0xd8);
}

inline void store_bytes(std::uint8_t* q, __m128i bytes, std::int64_t n) {
  if (n >= 16) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(q), bytes);
    return;
  }
  alignas(16) std::uint8_t buffer[16];
  _mm_store_si128(reinterpret_cast<__m128i*>(buffer), bytes);
  for (std::int64_t i = 0; i < n; ++i) q[i] = buffer[i];
}

inline void store_floats(float* y, __m256 values, std::int64_t n) {
  if (n >= kLanes)
    _mm256_storeu_ps(y, values);
  else if (n > 0)
    _mm256_maskstore_ps(y, lanes(n), values);
}

// One row's outputs of one panel, or as many as there are of it.
template <Output O>
FASTMNIST_INLINE void store_panel(const LinearArgs& args, std::int64_t row, std::int64_t panel,
                                  __m256 low, __m256 high) {
  const std::int64_t first = panel * kPanelOutputs;
  const std::int64_t at = row * args.y_stride + first;
  const std::int64_t left = args.w.outputs - first;
  if constexpr (O == Output::kFloats) {
    float* y = static_cast<float*>(args.y) + at;
    store_floats(y, clamped(low, args.clamp), left);
    store_floats(y + kLanes, clamped(high, args.clamp), left - kLanes);
  } else {
    store_bytes(static_cast<std::uint8_t*>(args.y) + at,
                pack_codes<O>(codes<O>(low, args), codes<O>(high, args),
                              packed_zero_point(args.y_quantizer)),
                left);
  }
}

// Sums of ROWS rows from m on by one panel, to outputs.
template <Output O, int ROWS>
FASTMNIST_INLINE void finish(const LinearArgs& args, std::int64_t m, std::int64_t panel,
                             const __m256i (&acc)[ROWS][2]) {
  const std::int64_t first = panel * kPanelOutputs;
  HalfConstants low = constants_of(args.w, first, args.x_quantizer);
  HalfConstants high = constants_of(args.w, first + kLanes, args.x_quantizer);
  unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
    if (args.row_quantizers != nullptr) {
      low = constants_of(args.w, first, args.row_quantizers[m + r]);
      high = constants_of(args.w, first + kLanes, args.row_quantizers[m + r]);
    }
    store_panel<O>(args, m + r, panel, real(acc[r][0], low), real(acc[r][1], high));
  });
}

}  // namespace
}  // namespace fastmnist
