// AVX2 linear kernel for weights of few bits, any number of rows; inputs that are zero in all rows
// of a block are left out.
//
// VPMADDUBSW adds two products in 16 bits. With weights of at most 8 in magnitude, as those of 4
// bits, eight such sums fit there, with at most 16 (5 bits) four; so two instructions do 32
// products, where exact sums of any weights take three and more:
//
//     16 bits, 8 quads of inputs    short  +=  VPMADDUBSW(quad of inputs, w)
//     32 bits, once for them        sums   +=  VPMADDWD(short, 1)
//
// The sums of 32 bits lie in the block's memory: with those of 16 bits there is no register left.
#include "core/types.h"
#include "kernels/sizes.h"
#include "kernels/unroll.h"
#include "kernels/x86/avx2_blocks.h"
#include "kernels/x86/avx2_byte_rows.h"
#include "kernels/x86/avx2_epilogue.h"
#include "kernels/x86/avx2_products.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

constexpr int kSums = 2 * kRowsOfBlock;
constexpr std::int64_t kSumsBytes = kSums * 32;

FASTMNIST_INLINE void add_to_memory(__m256i* sums, __m256i shorts) {
  const __m256i wide = _mm256_madd_epi16(shorts, _mm256_set1_epi16(1));
  _mm256_store_si256(sums, _mm256_add_epi32(_mm256_load_si256(sums), wide));
}

// Four inputs of some rows by the weights of some panels: each(sums, codes, weights). Weights that
// four rows and more use are loaded once; there is a register for them as long as nothing else is
// in the loop. (From memory each time, loads would take longer than products.)
template <int ROWS, int PANELS, typename Each>
FASTMNIST_INLINE void quad(__m256i (&shorts)[PANELS][ROWS][2], const std::byte* weights,
                           std::int64_t stride, const ByteRows& rows, std::int64_t q,
                           const Each& each) {
  const std::byte* w = weights + q * kBlockBytes;
  const std::uint8_t* x = rows.x + q * kBlockInputs;
  if constexpr (PANELS == 1 && ROWS > 3) {
    const __m256i low = load_bytes(w);
    const __m256i high = load_bytes(w + 32);
    unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
      const __m256i codes = broadcast_quad(x + r * rows.stride);
      each(shorts[0][r][0], codes, low);
      each(shorts[0][r][1], codes, high);
    });
  } else {
    unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
      const __m256i codes = broadcast_quad(x + r * rows.stride);
      unrolled<PANELS>([&](auto p) FASTMNIST_INLINE_BODY {
        each(shorts[p][r][0], codes, w + p * stride);
        each(shorts[p][r][1], codes, w + p * stride + 32);
      });
    });
  }
}

template <int QUADS>
struct Block : ByteRowsBlock {
  static std::int64_t bytes(std::int64_t inputs) {
    return ByteRowsBlock::bytes(inputs) + kSumsBytes;
  }

  template <int ROWS, Output O>
  static std::int64_t tile(const LinearArgs& args, std::byte* block, std::int64_t m,
                           std::int64_t panel, std::int64_t end) {
    return near_panels<Block, ROWS, O>(args, block, m, panel, end);
  }

  template <int ROWS, int PANELS, Output O>
  static void by_panels(const LinearArgs& args, std::byte* block, std::int64_t m,
                        std::int64_t panel) {
    const ByteRows rows = rows_of(block);
    const std::uint16_t* live = list_of(block);
    const std::int64_t stride = args.w.dense.stride;
    const std::byte* weights = args.w.dense.panels + panel * stride;
    auto* const sums = reinterpret_cast<__m256i*>(block + ByteRowsBlock::bytes(args.w.inputs));
    unrolled<PANELS * ROWS * 2>([&](auto i) FASTMNIST_INLINE_BODY {
      _mm256_store_si256(sums + i, _mm256_setzero_si256());
    });
    for (std::int64_t i = 0; i < rows.count;) {
      const std::int64_t stop = rows.count - i < QUADS ? rows.count : i + QUADS;
      __m256i shorts[PANELS][ROWS][2];
      // The first of them sets the sums, which saves clearing and adding.
      quad<ROWS, PANELS>(shorts, weights, stride, rows, live[i++],
                         [](__m256i& to, __m256i x, auto w)
                             FASTMNIST_INLINE_BODY { to = short_products(x, w); });
      while (i < stop)
        quad<ROWS, PANELS>(shorts, weights, stride, rows, live[i++],
                           [](__m256i& to, __m256i x, auto w)
                               FASTMNIST_INLINE_BODY { add_short_products(to, x, w); });
      unrolled<PANELS>([&](auto p) FASTMNIST_INLINE_BODY {
        unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
          add_to_memory(sums + 2 * (p * ROWS + r), shorts[p][r][0]);
          add_to_memory(sums + 2 * (p * ROWS + r) + 1, shorts[p][r][1]);
        });
      });
    }
    unrolled<PANELS>([&](auto p) FASTMNIST_INLINE_BODY {
      __m256i acc[ROWS][2];
      unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
        acc[r][0] = _mm256_load_si256(sums + 2 * (p * ROWS + r));
        acc[r][1] = _mm256_load_si256(sums + 2 * (p * ROWS + r) + 1);
      });
      finish<O, ROWS>(args, m, panel + p, acc);
    });
  }
};

template <int QUADS, Output O>
void linear(const LinearArgs& args) {
  over_blocks<Block<QUADS>, O>(args);
}

template <int QUADS>
constexpr LinearKernel kernel(const char* loop) {
  return {"avx2",
          loop,
          kRowsOfBlock,
          1,
          WeightForm::kDense,
          kFewRows | kManyRows,
          nullptr,
          [](const LinearShape& shape) { return short_quads(shape.most_weight) == QUADS; },
          blocks_bytes<Block<QUADS>>,
          linear<QUADS, Output::kFloats>,
          by_saturation<linear<QUADS, Output::kSaturate>, linear<QUADS, Output::kCodes>>};
}

constexpr LinearKernel kLinears[] = {kernel<8>("4-bit"), kernel<4>("5-bit")};

}  // namespace

extern const KernelPart kAvx2NarrowPart;
const KernelPart kAvx2NarrowPart = {"avx2", 0, nullptr, nullptr, kLinears, 2};

}  // namespace fastmnist
