// AVX2 linear kernel for many rows and any weights: tiles of 6 rows x 1 panel, inputs that are zero
// in all six left out.
//
// VPMADDUBSW would multiply bytes directly, but it saturates the sum of two products at 32,767
// (avx2_bounded.cpp has weights that it cannot happen to). VPMADDWD on 16 bits is exact; two can
// start in a cycle. Rows are widened once for all panels and broadcast from memory; weights are
// widened in the loop, even and odd inputs of a block apart, which needs no shuffles:
//
//     32 bits of a block, one output:   w3 w2 w1 w0        four inputs of one row:  x3 x2 x1 x0
//     even: sign-extended w2, w0  *  x2, x0 in 16 bits  ->  VPMADDWD  ->  w0 x0 + w2 x2
//     odd:  w >> 8 (arithmetic)   *  x3, x1             ->  VPMADDWD  ->  w1 x1 + w3 x3
//
// so 12 registers hold the sums of 6 x 16 outputs, and six rows read the weights once. A block of
// rows, prepared (quads of inputs, a multiple of 8):
//
//     counts | even [6][quads] x 32 bits | odd [6][quads] x 32 bits | lists of the quads whose even
//     (odd) inputs are not zero in all six rows, 16 bits each

#include "core/types.h"
#include "kernels/sizes.h"
#include "kernels/unroll.h"
#include "kernels/x86/avx2_blocks.h"
#include "kernels/x86/avx2_epilogue.h"
#include "kernels/x86/avx2_live.h"
#include "kernels/x86/avx2_products.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

// Where the pieces of a prepared block lie.
struct Layout {
  std::int64_t quads, even, odd, evens, odds, bytes;

  explicit Layout(std::int64_t inputs)
      : quads(round_up(divide_up(inputs, kBlockInputs), kGroupQuads)),
        even(64),
        odd(even + kRowsOfBlock * quads * 4),
        evens(odd + kRowsOfBlock * quads * 4),
        odds(evens + (quads + kListPadding) * 2),
        bytes(aligned(odds + (quads + kListPadding) * 2)) {}
};

struct Counts {
  std::int64_t even, odd;
};

// The products of even inputs, or of odd ones.
template <int ROWS, bool ODD>
FASTMNIST_INLINE void multiply_half(__m256i (&acc)[ROWS][2], const std::byte* panel,
                                    const std::byte* rows, std::int64_t stride,
                                    const std::uint16_t* list, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t q = list[i];
    const std::byte* block = panel + q * kBlockBytes;
    const std::byte* x = rows + q * 4;
    __m256i w[2];
    unrolled<2>([&](auto half) FASTMNIST_INLINE_BODY {
      w[half] = load_bytes(block + half * 32);
      if constexpr (!ODD) w[half] = _mm256_slli_epi16(w[half], 8);
      w[half] = _mm256_srai_epi16(w[half], 8);
    });
    unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
      const __m256i pair = broadcast_quad(x + r * stride);
      add_products(acc[r][0], pair, w[0]);
      add_products(acc[r][1], pair, w[1]);
    });
  }
}

struct Block {
  static std::int64_t bytes(std::int64_t inputs) { return Layout(inputs).bytes; }

  template <int ROWS>
  static void prepare(const LinearArgs& args, std::int64_t m, std::byte* block) {
    const Layout at(args.w.inputs);
    List evens(reinterpret_cast<std::uint16_t*>(block + at.evens));
    List odds(reinterpret_cast<std::uint16_t*>(block + at.odds));
    const std::uint8_t* x = args.x + m * args.x_stride;
    for (std::int64_t q = 0; q < at.quads; q += kGroupQuads) {
      __m256i any_even = _mm256_setzero_si256();
      __m256i any_odd = _mm256_setzero_si256();
      unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
        const __m256i codes = load_codes(x + r * args.x_stride, q * kBlockInputs, args.w.inputs);
        const __m256i even = _mm256_and_si256(codes, _mm256_set1_epi32(0x00ff00ff));
        const __m256i odd = _mm256_srli_epi16(codes, 8);
        any_even = _mm256_or_si256(any_even, even);
        any_odd = _mm256_or_si256(any_odd, odd);
        const std::int64_t to = (r * at.quads + q) * 4;
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(block + at.even + to), even);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(block + at.odd + to), odd);
      });
      evens.add(q, nonzero_lanes(any_even));
      odds.add(q, nonzero_lanes(any_odd));
    }
    *reinterpret_cast<Counts*>(block) = {evens.count(), odds.count()};
  }

  template <int ROWS, Output O>
  static void multiply(const LinearArgs& args, std::byte* block, std::int64_t m, std::int64_t panel,
                       std::int64_t end) {
    for (; panel < end; ++panel) tile<ROWS, O>(args, block, m, panel);
  }

 private:
  template <int ROWS, Output O>
  static void tile(const LinearArgs& args, std::byte* block, std::int64_t m, std::int64_t panel) {
    const Layout at(args.w.inputs);
    const Counts counts = *reinterpret_cast<const Counts*>(block);
    const std::byte* weights = args.w.dense.panels + panel * args.w.dense.stride;
    __m256i acc[ROWS][2];
    unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
      acc[r][0] = _mm256_setzero_si256();
      acc[r][1] = _mm256_setzero_si256();
    });
    multiply_half<ROWS, false>(acc, weights, block + at.even, at.quads * 4,
                               reinterpret_cast<const std::uint16_t*>(block + at.evens),
                               counts.even);
    multiply_half<ROWS, true>(acc, weights, block + at.odd, at.quads * 4,
                              reinterpret_cast<const std::uint16_t*>(block + at.odds), counts.odd);
    finish<O, ROWS>(args, m, panel, acc);
  }
};

template <Output O>
void linear(const LinearArgs& args) {
  over_blocks<Block, O>(args);
}

constexpr LinearKernel kLinears[] = {
    {"avx2", "", kRowsOfBlock, 1, WeightForm::kDense, kFewRows | kManyRows, nullptr, nullptr,
     blocks_bytes<Block>, linear<Output::kFloats>,
     by_saturation<linear<Output::kSaturate>, linear<Output::kCodes>>}};

}  // namespace

extern const KernelPart kAvx2RowsPart;
const KernelPart kAvx2RowsPart = {"avx2", 0, nullptr, nullptr, kLinears, 1};

}  // namespace fastmnist
