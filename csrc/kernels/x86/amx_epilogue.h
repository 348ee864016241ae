// The epilogue of AMX sums, a few rows at a time, so that it can be done between the products of
// the block that follows: tile and vector units work side by side.
//
// While tiles are in use this core multiplies and converts 16 floats a cycle instead of 32 (adding
// and logic keep both ports; measured, and it lasts some microseconds beyond the last tile
// instruction), and an output costs four of those: convert, fma, multiply, convert. Dense codes
// slow the unit itself down: what is held back in the end is power, so that work saved anywhere
// counts, and work moved elsewhere mostly does not.
#pragma once

#include "core/types.h"
#include "kernels/sizes.h"
#include "kernels/unroll.h"
#include "kernels/x86/amx_packing.h"
#include "kernels/x86/avx512_epilogue.h"

namespace fastmnist {
namespace {

// Sums of a block of ROWS rows and PANELS panels: [panel][ROWS][16] int32.
template <Output O, int ROWS, int PANELS>
class BlockEpilogue {
 public:
  static constexpr std::int64_t kSumsOfPanel = ROWS * kPanelOutputs;
  static constexpr std::int64_t kSumsBytes = PANELS * kSumsOfPanel * 4;
  static constexpr std::int64_t kRows = 4;  // per step
  static constexpr std::int64_t kSteps = ROWS / kRows;

  explicit BlockEpilogue(const TileArgs& args) : args_(args) {}

  // `rows` rows from `row` on, outputs from `first` on.
  void start(const std::int32_t* sums, std::int64_t row, std::int64_t rows, std::int64_t first) {
    sums_ = sums;
    row_ = row;
    end_ = row + rows;
    first_ = first;
    const std::int64_t left = panels_of(args_.w.outputs - first);
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
      const Packing<O> packing(args_);
      unrolled<kRows / 2>([&](auto i) {
        packing.template two_rows<CENTERED, kSumsOfPanel>(sums_ + 2 * i * kPanelOutputs, c[0], c[1],
                                                          out + 2 * i * stride, stride);
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

  const TileArgs& args_;
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
