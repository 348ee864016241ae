// AVX2 linear kernel for many rows: tiles of 6 rows x 1 panel, inputs that are zero in all six left
// out.
//
// VPMADDUBSW would multiply bytes directly, but it saturates the sum of two products at 32,767 and
// so gives wrong answers for large codes. VPMADDWD on 16 bits is exact; two can start in a cycle, 32
// products, and that is the limit. Rows are widened once for all panels and broadcast from memory;
// weights are widened in the loop, even and odd inputs of a block apart, which needs no shuffles:
//
//     32 bits of a block, one output:   w3 w2 w1 w0        four inputs of one row:  x3 x2 x1 x0
//     even: sign-extended w2, w0  *  x2, x0 in 16 bits  ->  VPMADDWD  ->  w0 x0 + w2 x2
//     odd:  w >> 8 (arithmetic)   *  x3, x1             ->  VPMADDWD  ->  w1 x1 + w3 x3
//
// so 12 registers hold the sums of 6 x 16 outputs, and six rows read the weights once. A block of
// rows, prepared (`Kq` quads of inputs, a multiple of 8):
//
//     even   [6][Kq] x 32 bits         odd   [6][Kq] x 32 bits
//     lists of the quads whose even (odd) inputs are not zero in all six rows: 16 bits each
#include "core/types.h"
#include "kernels/sizes.h"
#include "kernels/unroll.h"
#include "kernels/x86/avx2_epilogue.h"
#include "kernels/x86/avx2_live.h"
#include "kernels/x86/avx2_products.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

constexpr int kRows = 6;
// Panels that all rows pass over before the next: they stay in the second-level cache.
constexpr std::int64_t kGroupBytes = 160 * 1024;
// Rows that are prepared together where there are several such groups.
constexpr std::int64_t kPreparedBytes = 2 * 1024 * 1024;

// Where the pieces of a prepared block lie.
struct BlockLayout {
  std::int64_t quads;  // a multiple of 8
  std::int64_t half;   // bytes of the even or odd inputs of all rows
  std::int64_t list;   // bytes of a list
  std::int64_t bytes;

  explicit BlockLayout(std::int64_t inputs)
      : quads(round_up(divide_up(inputs, kBlockInputs), kGroupQuads)),
        half(kRows * quads * 4),
        list(aligned((quads + kListPadding) * 2)),
        bytes(64 + 2 * half + 2 * list) {}
};

struct Counts {
  std::int64_t even, odd;
};

// Rows in blocks of six in scratch memory.
class Prepared {
 public:
  Prepared(const LinearArgs& args) : args_(args), layout_(args.w.inputs) {}

  template <int ROWS>
  void prepare(std::int64_t m, std::byte* block) const {
    auto* even = reinterpret_cast<std::int32_t*>(block + 64);
    auto* odd = reinterpret_cast<std::int32_t*>(block + 64 + layout_.half);
    List evens(lists(block));
    List odds(lists(block) + layout_.list / 2);
    const std::uint8_t* x = args_.x + m * args_.x_stride;
    for (std::int64_t q = 0; q < layout_.quads; q += kGroupQuads) {
      __m256i any_even = _mm256_setzero_si256();
      __m256i any_odd = _mm256_setzero_si256();
      unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
        const __m256i codes =
            load_codes(x + r * args_.x_stride, q * kBlockInputs, args_.w.inputs);
        const __m256i e = _mm256_and_si256(codes, _mm256_set1_epi32(0x00ff00ff));
        const __m256i o = _mm256_srli_epi16(codes, 8);
        any_even = _mm256_or_si256(any_even, e);
        any_odd = _mm256_or_si256(any_odd, o);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(even + r * layout_.quads + q), e);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(odd + r * layout_.quads + q), o);
      });
      evens.add(q, any_even);
      odds.add(q, any_odd);
    }
    *reinterpret_cast<Counts*>(block) = {evens.count(), odds.count()};
  }

  const BlockLayout& layout() const { return layout_; }
  const Counts& counts(const std::byte* block) const {
    return *reinterpret_cast<const Counts*>(block);
  }
  std::uint16_t* lists(std::byte* block) const {
    return reinterpret_cast<std::uint16_t*>(block + 64 + 2 * layout_.half);
  }

 private:
  const LinearArgs& args_;
  BlockLayout layout_;
};

// The products of even inputs, or of odd ones.
template <int ROWS, bool ODD>
FASTMNIST_INLINE void multiply(__m256i (&acc)[ROWS][2], const std::byte* panel,
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
      const __m256i pair = _mm256_broadcastd_epi32(_mm_loadu_si32(x + r * stride));
      add_products(acc[r][0], pair, w[0]);
      add_products(acc[r][1], pair, w[1]);
    });
  }
}

template <int ROWS, Output O>
void tile(const LinearArgs& args, const Prepared& prepared, std::byte* block, std::int64_t m,
          std::int64_t panel) {
  const BlockLayout& at = prepared.layout();
  const Counts counts = prepared.counts(block);
  const std::byte* weights = args.w.dense.panels + panel * args.w.dense.stride;
  const std::uint16_t* lists = prepared.lists(block);
  __m256i acc[ROWS][2];
  unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
    acc[r][0] = _mm256_setzero_si256();
    acc[r][1] = _mm256_setzero_si256();
  });
  multiply<ROWS, false>(acc, weights, block + 64, at.quads * 4, lists, counts.even);
  multiply<ROWS, true>(acc, weights, block + 64 + at.half, at.quads * 4, lists + at.list / 2,
                       counts.odd);
  finish<O, ROWS>(args, m, panel, acc);
}

// Up to six rows by the panels of a group.
template <int ROWS, Output O>
void block_of(const LinearArgs& args, const Prepared& prepared, std::byte* block, std::int64_t m,
              std::int64_t panel, std::int64_t end, bool fresh) {
  if (fresh) prepared.prepare<ROWS>(m, block);
  for (; panel < end; ++panel) tile<ROWS, O>(args, prepared, block, m, panel);
}

using BlockOf = void (*)(const LinearArgs&, const Prepared&, std::byte*, std::int64_t, std::int64_t,
                         std::int64_t, bool);
template <Output O>
constexpr BlockOf kBlockOf[kRows] = {block_of<1, O>, block_of<2, O>, block_of<3, O>,
                                     block_of<4, O>, block_of<5, O>, block_of<6, O>};

std::int64_t group_panels(std::int64_t inputs) {
  const std::int64_t fit = kGroupBytes / (round_up(inputs, kInputPadding) * kPanelOutputs);
  return fit > 1 ? fit : 1;
}

// Blocks of rows that are prepared together.
std::int64_t prepared_blocks(std::int64_t rows, std::int64_t inputs, std::int64_t outputs) {
  if (group_panels(inputs) >= panels_of(outputs)) return 1;
  const std::int64_t fit = kPreparedBytes / BlockLayout(inputs).bytes;
  const std::int64_t all = divide_up(rows, kRows);
  return fit < 1 ? 1 : all < fit ? all : fit;
}

std::int64_t scratch_bytes(const LinearShape& shape) {
  return prepared_blocks(shape.rows, shape.inputs, shape.outputs) *
         BlockLayout(shape.inputs).bytes;
}

template <Output O>
void linear(const LinearArgs& args) {
  const Prepared prepared(args);
  const std::int64_t panels = panels_of(args.w.outputs);
  const std::int64_t group = group_panels(args.w.inputs);
  const std::int64_t rows =
      kRows * prepared_blocks(args.rows, args.w.inputs, args.w.outputs);
  for (std::int64_t first = 0; first < args.rows; first += rows) {
    const std::int64_t end = args.rows - first < rows ? args.rows : first + rows;
    for (std::int64_t panel = 0; panel < panels; panel += group) {
      const std::int64_t last = panels - panel < group ? panels : panel + group;
      auto* block = static_cast<std::byte*>(args.scratch);
      for (std::int64_t m = first; m < end; m += kRows, block += prepared.layout().bytes) {
        const std::int64_t left = end - m;
        kBlockOf<O>[(left < kRows ? left : kRows) - 1](args, prepared, block, m, panel, last,
                                                        panel == 0);
      }
    }
  }
}

constexpr LinearKernel kLinears[] = {
    {"avx2", "live", kRows, 1, WeightForm::kDense, kFewRows | kManyRows, nullptr, nullptr,
     scratch_bytes, linear<Output::kFloats>,
     by_saturation<linear<Output::kSaturate>, linear<Output::kCodes>>}};

}  // namespace

extern const KernelPart kAvx2RowsPart;
const KernelPart kAvx2RowsPart = {"avx2", 0, nullptr, nullptr, kLinears, 1};

}  // namespace fastmnist
