// Sums of two rows and two panels to 2 x 32 codes in memory: the epilogue's inner part.
//
//              panel p                panel p+1
//     row r    [16 sums of 4 bytes]   [16 sums]    ->   out           [32 codes]
//     row r+1  [16 sums          ]    [16 sums]    ->   out + stride  [32 codes]
#pragma once

#include "core/types.h"
#include "kernels/unroll.h"
#include "kernels/x86/avx512_epilogue.h"

namespace fastmnist {
namespace {

template <Output O>
class Packing {
 public:
  explicit Packing(const TileArgs& args)
      : lo_(_mm512_set1_ps(args.clamp.lo)),
        hi_(_mm512_set1_ps(args.clamp.hi)),
        inv_scale_(_mm512_set1_ps(args.y_quantizer.inv_scale)),
        zero_point_(packed_zero_point(args.y_quantizer)) {}

  // CENTERED: the inputs' zero point is 0, as behind a ReLU, and sums need no correction.
  template <bool CENTERED, std::int64_t SUMS_OF_PANEL>
  FASTMNIST_INLINE void two_rows(const std::int32_t* sums, const PanelConstants& c0,
                                 const PanelConstants& c1, std::uint8_t* out,
                                 std::int64_t stride) const {
    const std::int32_t* below = sums + kPanelOutputs;
    const __m512i q = pack_codes<O>(
        code<CENTERED>(sums, c0), code<CENTERED>(sums + SUMS_OF_PANEL, c1),
        code<CENTERED>(below, c0), code<CENTERED>(below + SUMS_OF_PANEL, c1), zero_point_);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_castsi512_si256(q));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + stride), _mm512_extracti64x4_epi64(q, 1));
  }

  // Of one panel, four rows: 4 x 16 codes.
  template <bool CENTERED>
  FASTMNIST_INLINE void four_rows(const std::int32_t* sums, const PanelConstants& c,
                                  std::uint8_t* out, std::int64_t stride) const {
    const __m512i q =
        pack_codes<O>(code<CENTERED>(sums, c), code<CENTERED>(sums + kPanelOutputs, c),
                      code<CENTERED>(sums + 2 * kPanelOutputs, c),
                      code<CENTERED>(sums + 3 * kPanelOutputs, c), zero_point_);
    const auto store = [out, stride](std::int64_t r, __m128i codes) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + r * stride), codes);
    };
    store(0, _mm512_castsi512_si128(q));
    store(1, _mm512_extracti32x4_epi32(q, 1));
    store(2, _mm512_extracti32x4_epi32(q, 2));
    store(3, _mm512_extracti32x4_epi32(q, 3));
  }

  // One row, of one or two panels.
  template <std::int64_t SUMS_OF_PANEL>
  void one_row(const std::int32_t* sums, const PanelConstants* c, int panels, std::uint8_t* out,
               const TileArgs& args) const {
    for (int p = 0; p < panels; ++p)
      store_codes(out + p * kPanelOutputs, 0xffff, code<false>(sums + p * SUMS_OF_PANEL, c[p]),
                  args.y_quantizer);
  }

 private:
  template <bool CENTERED>
  FASTMNIST_INLINE __m512i code(const std::int32_t* at, const PanelConstants& c) const {
    const __m512i sums = _mm512_load_si512(at);
    const __m512 y = CENTERED ? real_of_centered(sums, c) : real(sums, c);
    if constexpr (O == Output::kSaturate)
      return _mm512_cvtps_epi32(_mm512_mul_ps(y, inv_scale_));
    else
      return rounded(_mm512_mul_ps(_mm512_min_ps(hi_, _mm512_max_ps(lo_, y)), inv_scale_));
  }

  __m512 lo_;
  __m512 hi_;
  __m512 inv_scale_;
  __m512i zero_point_;
};

}  // namespace
}  // namespace fastmnist
