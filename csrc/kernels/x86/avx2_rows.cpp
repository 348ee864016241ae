// AVX2 linear kernel for many rows and any weights: tiles of 6 rows x 1 panel, inputs that are zero
// in all six left out.
//
// VPMADDUBSW multiplies bytes directly, but it saturates the sum of two products at 32,767 and so
// gives wrong answers for large codes (avx2_bounded.cpp has weights that it cannot happen to).
// Where all six rows have codes of at most 127 it is exact; that is most of what follows a ReLU.
// Other quads of inputs go by VPMADDWD on 16 bits: rows are widened once for all panels, weights in
// the loop, even and odd inputs of a block apart, which needs no shuffles:
//
//     32 bits of a block, one output:   w3 w2 w1 w0        four inputs of one row:  x3 x2 x1 x0
//     even: sign-extended w2, w0  *  x2, x0 in 16 bits  ->  VPMADDWD  ->  w0 x0 + w2 x2
//     odd:  w >> 8 (arithmetic)   *  x3, x1             ->  VPMADDWD  ->  w1 x1 + w3 x3
//
// so 12 registers hold the sums of 6 x 16 outputs, and six rows read the weights once. A block of
// rows, prepared, is three matrices and as many lists of the quads that are to be multiplied so:
//
//     counts | codes, even, odd: [6][quads] x 32 bits each | small, even, odd: 16 bits a quad
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

enum Kind { kSmall, kEven, kOdd };
constexpr int kKinds = 3;

// Where the pieces of a prepared block lie.
struct Layout {
  std::int64_t quads;   // a multiple of 8
  std::int64_t stride;  // bytes from a row to the next
  std::int64_t matrix;  // bytes of all rows
  std::int64_t list;

  explicit Layout(std::int64_t inputs)
      : quads(round_up(divide_up(inputs, kBlockInputs), kGroupQuads)),
        stride(quads * 4),
        matrix(kRowsOfBlock * stride),
        list((quads + kListPadding) * 2) {}

  std::int64_t bytes() const { return aligned(64 + kKinds * (matrix + list)); }
  std::byte* rows(std::byte* block, int kind) const { return block + 64 + kind * matrix; }
  std::uint16_t* quads_of(std::byte* block, int kind) const {
    return reinterpret_cast<std::uint16_t*>(block + 64 + kKinds * matrix + kind * list);
  }
};

struct Counts {
  std::int64_t of[kKinds];
};

template <int ROWS>
FASTMNIST_INLINE void add_small(__m256i (&acc)[ROWS][2], const std::byte* panel,
                                const std::byte* rows, std::int64_t stride,
                                const std::uint16_t* list, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t q = list[i];
    const std::byte* block = panel + q * kBlockBytes;
    const std::byte* x = rows + q * 4;
    unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
      const __m256i codes = broadcast_quad(x + r * stride);
      add_byte_products(acc[r][0], codes, block);
      add_byte_products(acc[r][1], codes, block + 32);
    });
  }
}

// Even or odd weights of a block, widened.
template <int KIND>
struct Widened {
  const std::byte* panel;

  FASTMNIST_INLINE __m256i operator()(std::int64_t quad, int half) const {
    __m256i w = load_bytes(panel + quad * kBlockBytes + half * 32);
    if constexpr (KIND == kEven) w = _mm256_slli_epi16(w, 8);
    return _mm256_srai_epi16(w, 8);
  }
};

struct Block {
  static constexpr std::int64_t kWeightBytes = 1;

  static std::int64_t bytes(std::int64_t inputs) { return Layout(inputs).bytes(); }

  template <int ROWS>
  static void prepare(const LinearArgs& args, std::int64_t m, std::byte* block) {
    const Layout at(args.w.inputs);
    List small(at.quads_of(block, kSmall));
    List evens(at.quads_of(block, kEven));
    List odds(at.quads_of(block, kOdd));
    const std::uint8_t* x = args.x + m * args.x_stride;
    for (std::int64_t q = 0; q < at.quads; q += kGroupQuads) {
      __m256i any = _mm256_setzero_si256();
      unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
        const __m256i codes = load_codes(x + r * args.x_stride, q * kBlockInputs, args.w.inputs);
        any = _mm256_or_si256(any, codes);
        const auto put = [&](int kind, __m256i values) {
          std::byte* to = at.rows(block, kind) + r * at.stride + q * 4;
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), values);
        };
        put(kSmall, codes);
        put(kEven, _mm256_and_si256(codes, _mm256_set1_epi32(0x00ff00ff)));
        put(kOdd, _mm256_srli_epi16(codes, 8));
      });
      const int large = nonzero_lanes(_mm256_and_si256(any, _mm256_set1_epi8(-128)));
      small.add(q, nonzero_lanes(any) & ~large);
      evens.add(q, nonzero_lanes(_mm256_and_si256(any, _mm256_set1_epi32(0x00ff00ff))) & large);
      odds.add(q, nonzero_lanes(_mm256_srli_epi16(any, 8)) & large);
    }
    *reinterpret_cast<Counts*>(block) = {{small.count(), evens.count(), odds.count()}};
  }

  template <int ROWS, Output O>
  static std::int64_t tile(const LinearArgs& args, std::byte* block, std::int64_t m,
                           std::int64_t panel, std::int64_t) {
    const Layout at(args.w.inputs);
    const Counts counts = *reinterpret_cast<const Counts*>(block);
    const std::byte* weights = args.w.dense.panels + panel * args.w.dense.stride;
    __m256i acc[ROWS][2];
    clear(acc);
    add_small<ROWS>(acc, weights, at.rows(block, kSmall), at.stride, at.quads_of(block, kSmall),
                    counts.of[kSmall]);
    add_pairs<ROWS>(acc, at.rows(block, kEven), at.stride, at.quads_of(block, kEven),
                    counts.of[kEven], Widened<kEven>{weights});
    add_pairs<ROWS>(acc, at.rows(block, kOdd), at.stride, at.quads_of(block, kOdd), counts.of[kOdd],
                    Widened<kOdd>{weights});
    finish<O, ROWS>(args, m, panel, acc);
    return 1;
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
