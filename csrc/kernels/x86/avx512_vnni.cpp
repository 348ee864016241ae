// AVX-512 VNNI linear kernels.
//
// VPDPBUSD multiplies four unsigned by four signed bytes and adds the exact sum to a 32-bit lane:
// one instruction is one 64-byte block of packed weights times four inputs of one row. A tile is
// ROWS rows by PANELS panels of 16 outputs, one accumulator register each; a weight block is loaded
// once per ROWS products and an input quadruple broadcast once per PANELS.
#include "core/types.h"
#include "kernels/sizes.h"
#include "kernels/unroll.h"
#include "kernels/x86/avx512_epilogue.h"
#include "kernels/x86/avx512_quad.h"

namespace fastmnist {
namespace {

template <int ROWS, int PANELS, Output O>
FASTMNIST_INLINE void finish(const LinearArgs& args, std::int64_t m, std::int64_t panel,
                             const __m512i (&acc)[ROWS][PANELS]) {
  const Weights& w = args.w;
  const std::int64_t first = panel * kPanelOutputs;
  const bool whole = w.outputs - first >= PANELS * kPanelOutputs;
  PanelConstants c[PANELS];
  unrolled<PANELS>(
      [&](auto p) FASTMNIST_INLINE_BODY { c[p] = constants_of(w, panel + p, args.x_quantizer); });
  unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
    const std::int64_t at = (m + r) * args.y_stride + first;
    __m512 y[PANELS];
    unrolled<PANELS>([&](auto p) FASTMNIST_INLINE_BODY {
      if (args.row_quantizers != nullptr)
        c[p] = constants_of(w, panel + p, args.row_quantizers[m + r]);
      y[p] = real(acc[r][p], c[p]);
    });
    if constexpr (O != Output::kFloats && PANELS == 4) {
      if (whole) {
        _mm512_storeu_si512(
            static_cast<std::uint8_t*>(args.y) + at,
            pack_codes<O>(codes<O>(y[0], args), codes<O>(y[1], args), codes<O>(y[2], args),
                          codes<O>(y[3], args), packed_zero_point(args.y_quantizer)));
        return;
      }
    }
    unrolled<PANELS>([&](auto p) FASTMNIST_INLINE_BODY {
      store<O>(args, at + p * kPanelOutputs, y[p], w.outputs - first - p * kPanelOutputs);
    });
  });
}

// Sums that are made side by side: VPDPBUSD takes 5 cycles and two can start in each. Small tiles
// take several blocks in turns to have enough.
template <int ROWS, int PANELS>
constexpr int kTurns = ROWS* PANELS >= 8 ? 1 : 8 / (ROWS * PANELS);

template <int ROWS, int PANELS, Output O>
void tile(const LinearArgs& args, std::int64_t m, std::int64_t panel) {
  constexpr int TURNS = kTurns<ROWS, PANELS>;
  const Weights& w = args.w;
  const std::byte* block = w.dense.panels + panel * w.dense.stride;
  const std::uint8_t* x = args.x + m * args.x_stride;
  __m512i acc[TURNS][ROWS][PANELS];
  unrolled<TURNS>([&](auto t) FASTMNIST_INLINE_BODY {
    unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
      unrolled<PANELS>([&](auto p)
                           FASTMNIST_INLINE_BODY { acc[t][r][p] = _mm512_setzero_si512(); });
    });
  });
  std::int64_t k = 0;
  for (; k + TURNS * kBlockInputs <= w.inputs; k += TURNS * kBlockInputs) {
    unrolled<TURNS>([&](auto t) FASTMNIST_INLINE_BODY {
      add_quad<ROWS, PANELS>(acc[t], x + k + t * kBlockInputs, args.x_stride,
                             block + t * kBlockBytes, w.dense.stride);
    });
    block += TURNS * kBlockBytes;
  }
  if constexpr (TURNS > 1)
    for (; k + kBlockInputs <= w.inputs; k += kBlockInputs, block += kBlockBytes)
      add_quad<ROWS, PANELS>(acc[0], x + k, args.x_stride, block, w.dense.stride);
  if (k < w.inputs) {
    std::int32_t tails[ROWS];
    for (int r = 0; r < ROWS; ++r) tails[r] = load_tail(x + r * args.x_stride + k, w.inputs - k);
    add_quad<ROWS, PANELS>(acc[0], reinterpret_cast<const std::uint8_t*>(tails), kBlockInputs,
                           block, w.dense.stride);
  }
  unrolled<TURNS>([&](auto t) FASTMNIST_INLINE_BODY {
    if constexpr (t > 0)
      unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
        unrolled<PANELS>([&](auto p) FASTMNIST_INLINE_BODY {
          acc[0][r][p] = _mm512_add_epi32(acc[0][r][p], acc[t][r][p]);
        });
      });
  });
  finish<ROWS, PANELS, O>(args, m, panel, acc[0]);
}

// What is left of the rows is one tile, so that few rows read the weights once.
template <int ROWS, int PANELS, Output O>
void last_rows(const LinearArgs& args, std::int64_t m, std::int64_t panel) {
  if constexpr (ROWS > 0) {
    if (args.rows - m == ROWS)
      tile<ROWS, PANELS, O>(args, m, panel);
    else
      last_rows<ROWS - 1, PANELS, O>(args, m, panel);
  }
}

// A group of panels stays in cache while all rows pass over it.
template <int ROWS, int PANELS, Output O>
void rows_over(const LinearArgs& args, std::int64_t panel) {
  std::int64_t m = 0;
  for (; m + ROWS <= args.rows; m += ROWS) tile<ROWS, PANELS, O>(args, m, panel);
  last_rows<ROWS - 1, PANELS, O>(args, m, panel);
}

template <int ROWS, int PANELS, Output O>
void last_panels(const LinearArgs& args, std::int64_t panel, std::int64_t left) {
  if constexpr (PANELS > 0) {
    if (left == PANELS)
      rows_over<ROWS, PANELS, O>(args, panel);
    else
      last_panels<ROWS, PANELS - 1, O>(args, panel, left);
  }
}

// 24 sums in registers either way. Four panels share a broadcast input among most; three keep more
// inputs' weights in the first-level cache (48 KB: up to 1,000 inputs instead of 750).
template <int ROWS, int PANELS, Output O>
void linear(const LinearArgs& args) {
  const std::int64_t panels = panels_of(args.w.outputs);
  std::int64_t panel = 0;
  for (; panel + PANELS <= panels; panel += PANELS) rows_over<ROWS, PANELS, O>(args, panel);
  last_panels<ROWS, PANELS - 1, O>(args, panel, panels - panel);
}

template <int ROWS, int PANELS>
constexpr LinearKernel kernel(int suits) {
  return {
      "avx512_vnni",
      "",
      ROWS,
      PANELS,
      WeightForm::kDense,
      suits,
      nullptr,
      nullptr,
      nullptr,
      linear<ROWS, PANELS, Output::kFloats>,
      by_saturation<linear<ROWS, PANELS, Output::kSaturate>, linear<ROWS, PANELS, Output::kCodes>>};
}

constexpr LinearKernel kLinears[] = {kernel<6, 4>(kFewestRows | kFewRows | kManyRows),
                                     kernel<8, 3>(kWhereMeasured)};

}  // namespace

extern const RowKernels kAvx512Rows;  // avx512_quantize.cpp
extern const PeakProbe kAvx512VnniPeak;

extern const KernelPart kAvx512VnniPart;
const KernelPart kAvx512VnniPart = {"avx512_vnni", 0, &kAvx512Rows, &kAvx512VnniPeak, kLinears, 2};

}  // namespace fastmnist
