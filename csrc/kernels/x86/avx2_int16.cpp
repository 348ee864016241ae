// AVX2 linear kernel for many rows on weights of 16 bits (core/layouts.h, "int16"): tiles of 6 rows
// x 1 panel, pairs of inputs that are zero in all six left out.
//
// VPMADDWD does 16 products and adds them two by two; two can start in a cycle, 32 products, and
// with rows widened once for all panels and weights that are wide already there is nothing else in
// the loop but adding. Neighbouring inputs are a pair, so that zeros that lie together are left out
// together. A block of rows, prepared:
//
//     count | rows [6][K] x 16 bits | list of the live pairs, 16 bits each
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

constexpr std::int64_t kPairBytes = 2 * kPanelOutputs * 2;  // of weights
constexpr std::int64_t kRows = 64;                          // where they begin, behind the count

struct Layout {
  std::int64_t stride;  // bytes from a row to the next
  std::int64_t list;    // where it begins
  std::int64_t bytes;

  explicit Layout(std::int64_t inputs)
      : stride(round_up(inputs, kGroupInputs) * 2),
        list(kRows + kRowsOfBlock * stride),
        bytes(aligned(list + (stride / 4 + kListPadding) * 2)) {}
};

struct Block {
  static constexpr std::int64_t kWeightBytes = 2;

  static std::int64_t bytes(std::int64_t inputs) { return Layout(inputs).bytes; }

  template <int ROWS>
  static void prepare(const LinearArgs& args, std::int64_t m, std::byte* block) {
    const Layout at(args.w.inputs);
    List live(reinterpret_cast<std::uint16_t*>(block + at.list));
    const std::uint8_t* x = args.x + m * args.x_stride;
    for (std::int64_t k = 0; k < args.w.inputs; k += kGroupInputs) {
      __m256i any[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
      unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
        const __m256i codes = load_codes(x + r * args.x_stride, k, args.w.inputs);
        std::byte* to = block + kRows + r * at.stride + k * 2;
        const auto put = [&](int half, __m128i bytes) FASTMNIST_INLINE_BODY {
          const __m256i words = _mm256_cvtepu8_epi16(bytes);
          any[half] = _mm256_or_si256(any[half], words);
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + half * 32), words);
        };
        put(0, _mm256_castsi256_si128(codes));
        put(1, _mm256_extracti128_si256(codes, 1));
      });
      live.add(k / 2, nonzero_lanes(any[0]));
      live.add(k / 2 + kGroupQuads, nonzero_lanes(any[1]));
    }
    *reinterpret_cast<std::int64_t*>(block) = live.count();
  }

  template <int ROWS, Output O>
  static std::int64_t tile(const LinearArgs& args, std::byte* block, std::int64_t m,
                           std::int64_t panel, std::int64_t) {
    const Layout at(args.w.inputs);
    const std::byte* weights = args.w.dense.panels + panel * args.w.dense.stride;
    __m256i acc[ROWS][2];
    clear(acc);
    add_pairs<ROWS>(
        acc, block + kRows, at.stride, reinterpret_cast<const std::uint16_t*>(block + at.list),
        *reinterpret_cast<const std::int64_t*>(block),
        [weights](std::int64_t pair, int half)
            FASTMNIST_INLINE_BODY { return load_bytes(weights + pair * kPairBytes + half * 32); });
    finish<O, ROWS>(args, m, panel, acc);
    return 1;
  }
};

template <Output O>
void linear(const LinearArgs& args) {
  over_blocks<Block, O>(args);
}

constexpr LinearKernel kLinears[] = {
    {"avx2", "", kRowsOfBlock, 1, WeightForm::kInt16, kFewRows | kManyRows, nullptr, nullptr,
     blocks_bytes<Block>, linear<Output::kFloats>,
     by_saturation<linear<Output::kSaturate>, linear<Output::kCodes>>}};

}  // namespace

extern const KernelPart kAvx2Int16Part;
const KernelPart kAvx2Int16Part = {"avx2", 0, nullptr, nullptr, kLinears, 1};

}  // namespace fastmnist
