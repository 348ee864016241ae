// AVX2: the plain linear kernel, which serves any layer, and the row of the table. The kernels for
// many rows, few rows and sparse weights are in avx2_{rows,few,windows}.cpp.
//
// VPMADDUBSW would multiply bytes directly, but it saturates the sum of two products at 32,767 and
// so gives wrong answers for large codes. Here bytes are widened to 16 bits first, even and odd
// positions apart, which needs no shuffles:
//
//     32 bits of a block, one output:   w3 w2 w1 w0        four inputs of one row:  x3 x2 x1 x0
//     even: sign-extended w2, w0  *  x & 0x00ff00ff   ->  VPMADDWD  ->  w0 x0 + w2 x2  (exact)
//     odd:  w >> 8 (arithmetic)   *  x >> 8           ->  VPMADDWD  ->  w1 x1 + w3 x3  (exact)
//
// so one ymm register accumulates 8 outputs, and a tile is ROWS rows by one panel (2 registers).
#include "core/types.h"
#include "kernels/unroll.h"
#include "kernels/x86/avx2_epilogue.h"
#include "kernels/x86/avx2_products.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

template <int ROWS>
FASTMNIST_INLINE void accumulate(__m256i (&acc)[ROWS][2], const std::uint8_t* x,
                                 std::int64_t x_stride, const std::byte* block) {
  const __m256i even_bytes = _mm256_set1_epi32(0x00ff00ff);
  __m256i even[2];
  __m256i odd[2];
  unrolled<2>([&](auto half) FASTMNIST_INLINE_BODY {
    const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block) + half);
    even[half] = _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8);
    odd[half] = _mm256_srai_epi16(w, 8);
  });
  unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
    const __m256i x4 = _mm256_broadcastd_epi32(_mm_loadu_si32(x + r * x_stride));
    const __m256i x_even = _mm256_and_si256(x4, even_bytes);
    const __m256i x_odd = _mm256_srli_epi16(x4, 8);
    unrolled<2>([&](auto half) FASTMNIST_INLINE_BODY {
      add_products(acc[r][half], x_even, even[half]);
      add_products(acc[r][half], x_odd, odd[half]);
    });
  });
}

template <int ROWS, Output O>
void tile(const LinearArgs& args, std::int64_t m, std::int64_t panel) {
  const Weights& w = args.w;
  const std::byte* block = w.dense.panels + panel * w.dense.stride;
  const std::uint8_t* x = args.x + m * args.x_stride;
  __m256i acc[ROWS][2];
  clear(acc);
  std::int64_t k = 0;
  for (; k + kBlockInputs <= w.inputs; k += kBlockInputs, block += kBlockBytes)
    accumulate<ROWS>(acc, x + k, args.x_stride, block);
  if (k < w.inputs) {
    std::int32_t tails[ROWS];
    for (int r = 0; r < ROWS; ++r) tails[r] = load_tail(x + r * args.x_stride + k, w.inputs - k);
    accumulate<ROWS>(acc, reinterpret_cast<const std::uint8_t*>(tails), kBlockInputs, block);
  }
  finish<O, ROWS>(args, m, panel, acc);
}

// A panel's weights are read once for all rows before the next panel's; what is left of fours is
// one tile, so up to four rows read the weights once.
template <Output O>
void linear(const LinearArgs& args) {
  for (std::int64_t panel = 0; panel * kPanelOutputs < args.w.outputs; ++panel) {
    std::int64_t m = 0;
    for (; m + 4 <= args.rows; m += 4) tile<4, O>(args, m, panel);
    const std::int64_t left = args.rows - m;
    if (left == 3) tile<3, O>(args, m, panel);
    if (left == 2) tile<2, O>(args, m, panel);
    if (left == 1) tile<1, O>(args, m, panel);
  }
}

constexpr LinearKernel kLinears[] = {
    {"avx2", "", 4, 1, WeightForm::kDense, kFewestRows, nullptr, nullptr, nullptr,
     linear<Output::kFloats>, by_saturation<linear<Output::kSaturate>, linear<Output::kCodes>>}};

}  // namespace

extern const RowKernels kAvx2Rows;  // avx2_quantize.cpp
extern const PeakProbe kAvx2Peak;

extern const KernelPart kAvx2Part;
const KernelPart kAvx2Part = {"avx2", 0, &kAvx2Rows, &kAvx2Peak, kLinears, 1};

}  // namespace fastmnist
