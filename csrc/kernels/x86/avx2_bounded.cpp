// AVX2 linear kernel for weights in pairs that cannot saturate (core/layouts.h, "bounded"), any
// number of rows; inputs that are zero in all rows of a block are left out.
//
// VPMADDUBSW multiplies bytes as they are and adds two products; where packing made sure that such
// a sum stays within 16 bits it is exact, and three instructions do 32 products where widened ones
// take four and more.
//
//     sums of 8 outputs  +=  VPMADDWD(VPMADDUBSW(quad of inputs, w), 1)
//
// over the live quads with the panel's weights, then over the panel's rests (few).
#include "kernels/x86/intrinsics.h"

#include "core/types.h"
#include "kernels/sizes.h"
#include "kernels/unroll.h"
#include "kernels/x86/avx2_blocks.h"
#include "kernels/x86/avx2_byte_rows.h"
#include "kernels/x86/avx2_epilogue.h"
#include "kernels/x86/avx2_live.h"
#include "kernels/x86/avx2_products.h"

namespace fastmnist {
namespace {

// The live quads by the weights of some panels.
template <int ROWS, int PANELS>
FASTMNIST_INLINE void add_live(__m256i (&acc)[PANELS][ROWS][2], const std::byte* weights,
                               std::int64_t panel_stride, const ByteRows& rows,
                               const std::uint16_t* live) {
  for (std::int64_t i = 0; i < rows.count; ++i) {
    const std::int64_t q = live[i];
    const std::byte* block = weights + q * kBlockBytes;
    const std::uint8_t* x = rows.x + q * kBlockInputs;
    unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
      const __m256i codes = broadcast_quad(x + r * rows.stride);
      unrolled<PANELS>([&](auto p) FASTMNIST_INLINE_BODY {
        add_byte_products(acc[p][r][0], codes, block + p * panel_stride);
        add_byte_products(acc[p][r][1], codes, block + p * panel_stride + 32);
      });
    });
  }
}

// The rests of half a panel. (Bounded, as packed bytes may come from anywhere.)
template <int ROWS, int HALF>
FASTMNIST_INLINE void add_rests(__m256i (&acc)[ROWS][2], const Weights& weights, std::int64_t panel,
                                const ByteRows& rows) {
  const BoundedPanels& w = weights.bounded;
  const std::uint64_t* starts = w.rest_starts + 2 * panel + HALF;
  const auto all = static_cast<std::uint64_t>(w.rest_count);
  const std::uint64_t end = starts[1] < all ? starts[1] : all;
  const std::int64_t last = divide_up(weights.inputs, kBlockInputs) - 1;
  for (std::uint64_t i = starts[0]; i < end; ++i) {
    const std::int64_t said = w.rest_quads[i];
    const std::uint8_t* x = rows.x + (said < last ? said : last) * kBlockInputs;
    const std::byte* rest = w.rests + static_cast<std::int64_t>(i) * 32;
    unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
      add_byte_products(acc[r][HALF], broadcast_quad(x + r * rows.stride), rest);
    });
  }
}

struct Block : ByteRowsBlock {
  template <int ROWS, Output O>
  static std::int64_t tile(const LinearArgs& args, std::byte* block, std::int64_t m,
                           std::int64_t panel, std::int64_t end) {
    return near_panels<Block, ROWS, O>(args, block, m, panel, end);
  }

  template <int ROWS, int PANELS, Output O>
  static void by_panels(const LinearArgs& args, std::byte* block, std::int64_t m,
                        std::int64_t panel) {
    const ByteRows rows = rows_of(block);
    const BoundedPanels& w = args.w.bounded;
    __m256i acc[PANELS][ROWS][2];
    unrolled<PANELS>([&](auto p) FASTMNIST_INLINE_BODY { clear(acc[p]); });
    add_live<ROWS, PANELS>(acc, w.panels + panel * w.stride, w.stride, rows, list_of(block));
    unrolled<PANELS>([&](auto p) FASTMNIST_INLINE_BODY {
      add_rests<ROWS, 0>(acc[p], args.w, panel + p, rows);
      add_rests<ROWS, 1>(acc[p], args.w, panel + p, rows);
      finish<O, ROWS>(args, m, panel + p, acc[p]);
    });
  }
};

template <Output O>
void linear(const LinearArgs& args) {
  over_blocks<Block, O>(args);
}

constexpr LinearKernel kLinears[] = {
    {"avx2", "", kRowsOfBlock, 1, WeightForm::kBounded, kFewestRows | kFewRows | kManyRows, nullptr,
     nullptr, blocks_bytes<Block>, linear<Output::kFloats>,
     by_saturation<linear<Output::kSaturate>, linear<Output::kCodes>>}};

}  // namespace

extern const KernelPart kAvx2BoundedPart;
const KernelPart kAvx2BoundedPart = {"avx2", 0, nullptr, nullptr, kLinears, 1};

}  // namespace fastmnist
