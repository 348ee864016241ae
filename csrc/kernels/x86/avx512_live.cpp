// AVX-512 VNNI linear kernel for few rows: blocks of 4 inputs that are zero in all rows are left
// out, so that their weights are not read either. 81 % of MNIST's pixels are 0, and half of what
// follows a ReLU; code 0 adds nothing to the sums. Like avx2_live.h, with 16 quads of inputs a
// register:
//
//     rows     64 codes each  ── or ──►  which of 16 quads are live  ── compress ──►  list of quads
//
// A tile is some rows by as many panels as there are registers for: with one row, two blocks in
// turns, as VPDPBUSD takes 5 cycles and two can start in each.
#include "core/types.h"
#include "kernels/sizes.h"
#include "kernels/unroll.h"
#include "kernels/x86/avx512_epilogue.h"
#include "kernels/x86/avx512_quad.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

constexpr int kMostRows = 8;
constexpr std::int64_t kGroupQuads = 16;
constexpr std::int64_t kGroupInputs = kGroupQuads * kBlockInputs;

// Whole quads; what is left of the inputs is done by itself.
struct LiveQuads {
  std::int32_t* list;
  std::int64_t count = 0;

  static std::int64_t bytes(std::int64_t inputs) {
    return (inputs / kBlockInputs + kGroupQuads) * 4;
  }

  template <int ROWS>
  FASTMNIST_INLINE void find(const std::uint8_t* x, std::int64_t stride, std::int64_t inputs) {
    const std::int64_t whole = inputs / kBlockInputs * kBlockInputs;
    __m512i places = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (std::int64_t k = 0; k < whole; k += kGroupInputs) {
      const std::int64_t left = whole - k;
      const __mmask64 on = left >= 64 ? ~__mmask64{0} : (__mmask64{1} << left) - 1;
      __m512i any = _mm512_maskz_loadu_epi8(on, x + k);
      unrolled<ROWS - 1>([&](auto r) FASTMNIST_INLINE_BODY {
        any = _mm512_or_si512(any, _mm512_maskz_loadu_epi8(on, x + (r + 1) * stride + k));
      });
      const __mmask16 live = _mm512_test_epi32_mask(any, any);
      _mm512_storeu_si512(list + count, _mm512_maskz_compress_epi32(live, places));
      count += __builtin_popcount(live);
      places = _mm512_add_epi32(places, _mm512_set1_epi32(kGroupQuads));
    }
  }
};

template <int ROWS, int PANELS, Output O>
void tile(const LinearArgs& args, const LiveQuads& live, std::int64_t m, std::int64_t panel) {
  constexpr int TURNS = ROWS * PANELS <= 8 ? 2 : 1;
  const Weights& w = args.w;
  const std::int64_t stride = w.dense.stride;
  const std::byte* weights = w.dense.panels + panel * stride;
  const std::uint8_t* x = args.x + m * args.x_stride;
  const std::int64_t x_stride = args.x_stride;
  const std::int32_t* list = live.list;
  const std::int64_t count = live.count;
  __m512i acc[TURNS][ROWS][PANELS];
  unrolled<TURNS>([&](auto t) FASTMNIST_INLINE_BODY {
    unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
      unrolled<PANELS>([&](auto p)
                           FASTMNIST_INLINE_BODY { acc[t][r][p] = _mm512_setzero_si512(); });
    });
  });
  std::int64_t i = 0;
  for (; i + TURNS <= count; i += TURNS)
    unrolled<TURNS>([&](auto t) FASTMNIST_INLINE_BODY {
      const std::int64_t quad = list[i + t];
      add_quad<ROWS, PANELS>(acc[t], x + quad * kBlockInputs, x_stride,
                             weights + quad * kBlockBytes, stride);
    });
  if (i < count) {
    const std::int64_t quad = list[i];
    add_quad<ROWS, PANELS>(acc[0], x + quad * kBlockInputs, x_stride, weights + quad * kBlockBytes,
                           stride);
  }
  const std::int64_t tail = w.inputs / kBlockInputs * kBlockInputs;
  if (tail < w.inputs) {
    std::int32_t tails[ROWS];
    for (int r = 0; r < ROWS; ++r) tails[r] = load_tail(x + r * x_stride + tail, w.inputs - tail);
    add_quad<ROWS, PANELS>(acc[0], reinterpret_cast<const std::uint8_t*>(tails), kBlockInputs,
                           weights + tail / kBlockInputs * kBlockBytes, stride);
  }
  unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
    unrolled<PANELS>([&](auto p) FASTMNIST_INLINE_BODY {
      __m512i sum = acc[0][r][p];
      if constexpr (TURNS > 1) sum = _mm512_add_epi32(sum, acc[1][r][p]);
      const std::int64_t first = (panel + p) * kPanelOutputs;
      store<O>(args, (m + r) * args.y_stride + first,
               real(sum, constants_of(w, panel + p, quantizer_of(args, m + r))), w.outputs - first);
    });
  });
}

// Up to 24 sums; with one row six panels, which is what a first layer of 96 outputs has.
template <int ROWS>
constexpr int kPanels = ROWS == 1   ? 6
                        : ROWS <= 4 ? 4
                                    : 3;

template <int ROWS, int PANELS, Output O>
void last_panels(const LinearArgs& args, const LiveQuads& live, std::int64_t m, std::int64_t panel,
                 std::int64_t left) {
  if constexpr (PANELS > 0) {
    if (left == PANELS)
      tile<ROWS, PANELS, O>(args, live, m, panel);
    else
      last_panels<ROWS, PANELS - 1, O>(args, live, m, panel, left);
  }
}

template <int ROWS, Output O>
void rows_of(const LinearArgs& args, std::int64_t m) {
  LiveQuads live{static_cast<std::int32_t*>(args.scratch)};
  live.find<ROWS>(args.x + m * args.x_stride, args.x_stride, args.w.inputs);
  const std::int64_t panels = panels_of(args.w.outputs);
  std::int64_t panel = 0;
  for (; panel + kPanels<ROWS> <= panels; panel += kPanels<ROWS>)
    tile<ROWS, kPanels<ROWS>, O>(args, live, m, panel);
  last_panels<ROWS, kPanels<ROWS> - 1, O>(args, live, m, panel, panels - panel);
}

using RowsOf = void (*)(const LinearArgs&, std::int64_t m);
template <Output O>
constexpr RowsOf kRowsOf[kMostRows] = {rows_of<1, O>, rows_of<2, O>, rows_of<3, O>, rows_of<4, O>,
                                       rows_of<5, O>, rows_of<6, O>, rows_of<7, O>, rows_of<8, O>};

template <Output O>
void linear(const LinearArgs& args) {
  for (std::int64_t m = 0; m < args.rows; m += kMostRows) {
    const std::int64_t left = args.rows - m;
    kRowsOf<O>[(left < kMostRows ? left : kMostRows) - 1](args, m);
  }
}

constexpr LinearKernel kLinears[] = {
    {"avx512_vnni", "live", kMostRows, 3, WeightForm::kDense, kFewestRows, nullptr,
     [](const LinearShape& shape) { return shape.rows <= 2 * kMostRows; },
     [](const LinearShape& shape) { return LiveQuads::bytes(shape.inputs); },
     linear<Output::kFloats>, by_saturation<linear<Output::kSaturate>, linear<Output::kCodes>>}};

}  // namespace

extern const KernelPart kAvx512LivePart;
const KernelPart kAvx512LivePart = {"avx512_vnni", 0, nullptr, nullptr, kLinears, 1};

}  // namespace fastmnist
