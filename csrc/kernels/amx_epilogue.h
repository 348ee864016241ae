// The epilogue of AMX sums, a few rows at a time, so that it can be done between the products of
// the block that follows: tile and vector units work side by side.
//
// While tiles are in use this core does one floating-point vector instruction a cycle instead of
// two (measured; it lasts some microseconds beyond the last tile instruction), and an output costs
// four of them: convert, fma, multiply, convert. That bounds layers with few inputs.
#pragma once

#include "core/types.h"
#include "kernels/avx512_epilogue.h"
#include "kernels/unroll.h"

namespace fastmnist {
namespace {

// What two rows of two panels become: 2 x 32 codes.
template <Output O>
class Packing {
 public:
  explicit Packing(const LinearArgs& args)
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

  // One of them.
  template <std::int64_t SUMS_OF_PANEL>
  void one_row(const std::int32_t* sums, const PanelConstants* c, std::uint8_t* out,
               const LinearArgs& args) const {
    for (int p = 0; p < 2; ++p)
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

// Sums of a block of ROWS rows and PANELS panels: [panel][ROWS][16] int32.
template <Output O, int ROWS, int PANELS>
class BlockEpilogue {
 public:
  static constexpr std::int64_t kSumsOfPanel = ROWS * kPanelOutputs;
  static constexpr std::int64_t kSumsBytes = PANELS * kSumsOfPanel * 4;
  static constexpr std::int64_t kRows = 4;  // per step
  static constexpr std::int64_t kSteps = ROWS / kRows;

  explicit BlockEpilogue(const LinearArgs& args) : args_(args) {}

  // `rows` rows from `row` on, outputs from `first` on.
  void start(const std::int32_t* sums, std::int64_t row, std::int64_t rows, std::int64_t first) {
    sums_ = sums;
    row_ = row;
    end_ = row + rows;
    first_ = first;
    const std::int64_t left = (args_.w.outputs - first + kPanelOutputs - 1) / kPanelOutputs;
    panels_ = left < PANELS ? static_cast<int>(left) : PANELS;
    for (int p = 0; p < panels_; ++p)
      constants_[p] = constants_of(args_.w, first / kPanelOutputs + p, args_.x_quantizer);
    whole_ =
        args_.row_quantizers == nullptr &&
        (O == Output::kFloats || (PANELS > 1 && args_.w.outputs - first >= PANELS * kPanelOutputs));
  }

  void step() {
    if (row_ >= end_) return;
    const std::int64_t rows = end_ - row_ < kRows ? end_ - row_ : kRows;
    if (whole_ && rows == kRows)
      whole_rows();
    else
      for (std::int64_t r = 0; r < rows; ++r) one_row(r);
    sums_ += rows * kPanelOutputs;
    row_ += rows;
  }

  void finish() {
    while (row_ < end_) step();
  }

  // Whether rows of the block of sums that begins here are still to be done.
  bool reads(const std::int32_t* sums) const {
    return row_ < end_ && sums_ >= sums && sums_ < sums + kSumsOfPanel;
  }

 private:
  template <bool CENTERED>
  __m512i code(std::int64_t r, int p, const PanelConstants& c) const {
    const __m512i sums = _mm512_load_si512(sums_ + p * kSumsOfPanel + r * kPanelOutputs);
    return codes<O>(CENTERED ? real_of_centered(sums, c) : real(sums, c), args_);
  }

  void whole_rows() {
    PanelConstants c[PANELS];
    unrolled<PANELS>([&](auto p) { c[p] = constants_[p]; });
    if constexpr (O != Output::kFloats && PANELS == 1)
      __builtin_unreachable();
    else if constexpr (O != Output::kFloats)
      args_.x_quantizer.zero_point == 0 ? packed_rows<true>(c) : packed_rows<false>(c);
    else if (args_.clamp.hi == __builtin_inff())
      float_rows<false>(c);
    else
      float_rows<true>(c);
  }

  template <bool UPPER_BOUND>
  FASTMNIST_INLINE void float_rows(const PanelConstants (&c)[PANELS]) {
    const __m512 lo = _mm512_set1_ps(args_.clamp.lo);
    [[maybe_unused]] const __m512 hi = _mm512_set1_ps(args_.clamp.hi);
    float* out = static_cast<float*>(args_.y) + row_ * args_.y_stride + first_;
    __mmask16 on[PANELS];  // the last panel may be partly there, or not at all
    unrolled<PANELS>([&](auto p) { on[p] = lanes(args_.w.outputs - first_ - p * kPanelOutputs); });
    unrolled<kRows>([&](auto r) {
      unrolled<PANELS>([&](auto p) {
        const __m512i sums = _mm512_load_si512(sums_ + p * kSumsOfPanel + r * kPanelOutputs);
        __m512 y = _mm512_max_ps(lo, real(sums, c[p]));
        if constexpr (UPPER_BOUND) y = _mm512_min_ps(hi, y);
        _mm512_mask_storeu_ps(out + r * args_.y_stride + p * kPanelOutputs, on[p], y);
      });
    });
  }

  // 64 codes at a time: one row of four panels, or two rows of two. CENTERED: the inputs' zero
  // point is 0, as behind a ReLU, and sums need no correction. (Integer instructions, too, take
  // turns with the four of floating point.)
  template <bool CENTERED>
  FASTMNIST_INLINE void packed_rows(const PanelConstants (&c)[PANELS]) {
    auto* out = static_cast<std::uint8_t*>(args_.y) + row_ * args_.y_stride + first_;
    const std::int64_t stride = args_.y_stride;
    const __m512i zero_point = packed_zero_point(args_.y_quantizer);
    if constexpr (PANELS == 4) {
      unrolled<kRows>([&](auto r) {
        _mm512_storeu_si512(
            out + r * stride,
            pack_codes<O>(code<CENTERED>(r, 0, c[0]), code<CENTERED>(r, 1, c[1]),
                          code<CENTERED>(r, 2, c[2]), code<CENTERED>(r, 3, c[3]), zero_point));
      });
    } else {
      static_assert(PANELS == 2);
      unrolled<kRows / 2>([&](auto i) {
        const std::int64_t r = 2 * i;
        const __m512i q = pack_codes<O>(code<CENTERED>(r, 0, c[0]), code<CENTERED>(r, 1, c[1]),
                                        code<CENTERED>(r + 1, 0, c[0]),
                                        code<CENTERED>(r + 1, 1, c[1]), zero_point);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + r * stride),
                            _mm512_castsi512_si256(q));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + (r + 1) * stride),
                            _mm512_extracti64x4_epi64(q, 1));
      });
    }
  }

  void one_row(std::int64_t r) {
    for (int p = 0; p < panels_; ++p) {
      const PanelConstants c =
          args_.row_quantizers == nullptr
              ? constants_[p]
              : constants_of(args_.w, first_ / kPanelOutputs + p, args_.row_quantizers[row_ + r]);
      const std::int64_t n = first_ + p * kPanelOutputs;
      const __m512i sums = _mm512_load_si512(sums_ + p * kSumsOfPanel + r * kPanelOutputs);
      store<O>(args_, (row_ + r) * args_.y_stride + n, real(sums, c), args_.w.outputs - n);
    }
  }

  const LinearArgs& args_;
  PanelConstants constants_[PANELS];
  const std::int32_t* sums_ = nullptr;  // of the next row
  std::int64_t row_ = 0;
  std::int64_t end_ = 0;
  std::int64_t first_ = 0;
  int panels_ = 0;
  bool whole_ = false;  // unmasked, one quantizer for all rows
};

}  // namespace
}  // namespace fastmnist
