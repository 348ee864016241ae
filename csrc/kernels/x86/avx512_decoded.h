// AVX-512 VNNI on weights that are decoded block by block (bitmask, nibbles), for up to eight rows
// at a time: in an anonymous namespace, as kernel files need it.
//
// A class of values has
//     Values(const Weights& w, std::int64_t panel)
//     void begin_group()      before every 16 blocks
//     __m512i next(int b)     the next dense block of the panel, b-th since begin_group
#pragma once

#include "core/types.h"
#include "kernels/sizes.h"
#include "kernels/unroll.h"
#include "kernels/x86/avx512_epilogue.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

// Outputs of one panel for ROWS rows from m on.
template <int ROWS, Output O>
FASTMNIST_INLINE void finish(const LinearArgs& args, std::int64_t m, std::int64_t panel,
                             const __m512i (&acc)[ROWS]) {
  const std::int64_t first = panel * kPanelOutputs;
  unrolled<ROWS>([&](auto r) {
    const PanelConstants constants = constants_of(args.w, panel, quantizer_of(args, m + r));
    store<O>(args, (m + r) * args.y_stride + first, real(acc[r], constants),
             args.w.outputs - first);
  });
}

template <int ROWS>
FASTMNIST_INLINE void add_block(__m512i (&acc)[ROWS], __m512i w, const std::uint8_t* x,
                                std::int64_t x_stride) {
  unrolled<ROWS>([&](auto r) {
    const __m512i x4 = _mm512_broadcastd_epi32(_mm_loadu_si32(x + r * x_stride));
    acc[r] = _mm512_dpbusd_epi32(acc[r], x4, w);
  });
}

// ROWS rows by the blocks of one panel, as `Values` decodes them one after the other.
template <int ROWS, typename Values, Output O>
void decoded_rows(const LinearArgs& args, std::int64_t m, std::int64_t panel) {
  constexpr int TURNS = ROWS == 1 ? 4 : ROWS == 2 ? 2 : 1;  // VPDPBUSD takes 5 cycles
  const std::int64_t inputs = args.w.inputs;
  const std::uint8_t* x = args.x + m * args.x_stride;
  Values values(args.w, panel);
  __m512i acc[TURNS][ROWS];
  unrolled<TURNS>(
      [&](auto t) { unrolled<ROWS>([&](auto r) { acc[t][r] = _mm512_setzero_si512(); }); });
  std::int64_t k = 0;
  for (; k + kInputPadding <= inputs; k += kInputPadding) {
    values.begin_group();
    unrolled<kInputPadding / kBlockInputs>([&](auto b) {
      add_block<ROWS>(acc[b % TURNS], values.next(b), x + k + b * kBlockInputs, args.x_stride);
    });
  }
  values.begin_group();
  int block = 0;
  for (; k + kBlockInputs <= inputs; k += kBlockInputs)
    add_block<ROWS>(acc[0], values.next(block++), x + k, args.x_stride);
  if (k < inputs) {
    std::int32_t tails[ROWS];
    for (int r = 0; r < ROWS; ++r) tails[r] = load_tail(x + r * args.x_stride + k, inputs - k);
    add_block<ROWS>(acc[0], values.next(block), reinterpret_cast<const std::uint8_t*>(tails),
                    kBlockInputs);
  }
  unrolled<TURNS>([&](auto t) {
    if constexpr (t > 0)
      unrolled<ROWS>([&](auto r) { acc[0][r] = _mm512_add_epi32(acc[0][r], acc[t][r]); });
  });
  finish<ROWS, O>(args, m, panel, acc[0]);
}

using RowsOfPanel = void (*)(const LinearArgs&, std::int64_t m, std::int64_t panel);

// BY_ROWS[n - 1] does n rows; its last as many as it can at once.
template <int MOST, const RowsOfPanel (&BY_ROWS)[MOST]>
FASTMNIST_INLINE void over_panels(const LinearArgs& args) {
  const std::int64_t panels = panels_of(args.w.outputs);
  for (std::int64_t panel = 0; panel < panels; ++panel)
    for (std::int64_t m = 0; m < args.rows; m += MOST) {
      const std::int64_t left = args.rows - m;
      BY_ROWS[(left < MOST ? left : MOST) - 1](args, m, panel);
    }
}

template <typename Values, Output O>
constexpr RowsOfPanel kDecodedRows[8] = {decoded_rows<1, Values, O>, decoded_rows<2, Values, O>,
                                         decoded_rows<3, Values, O>, decoded_rows<4, Values, O>,
                                         decoded_rows<5, Values, O>, decoded_rows<6, Values, O>,
                                         decoded_rows<7, Values, O>, decoded_rows<8, Values, O>};

}  // namespace
}  // namespace fastmnist
