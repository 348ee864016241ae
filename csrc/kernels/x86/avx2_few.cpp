// AVX2 linear kernel for one or two rows: whole blocks of 4 inputs by VPMADDUBSW, those that are
// zero in all rows left out.
//
// Few rows cannot pay for widening weights. Quads of codes up to 127 need nothing at all: their
// products fit the 16 bits of VPMADDUBSW, two by two. Others are split into 7 bits and 1 bit
// (avx2_products.h), once for all panels:
//
//     codes  x = 2 * high + low     high [rows][K]   low [rows][K]   lists of small and large quads
//
//     small    sums       +=  VPMADDWD(VPMADDUBSW(x, w), 1)        32 bits
//     large    high sums  +=  VPMADDWD(VPMADDUBSW(high, w), 1)     32 bits
//              low sums   +=  VPMADDUBSW(low, w)                   16 bits, for 64 quads
#include "core/types.h"
#include "kernels/sizes.h"
#include "kernels/unroll.h"
#include "kernels/x86/avx2_epilogue.h"
#include "kernels/x86/avx2_live.h"
#include "kernels/x86/avx2_products.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

constexpr int kMostRows = 2;  // three would have more sums and operands than there are registers

struct Prepared {
  std::int64_t stride;  // bytes from a row's codes to the next one's
  std::byte* codes;
  std::byte* high;
  std::byte* low;
  std::uint16_t* small;
  std::uint16_t* large;
  std::int64_t small_count = 0;
  std::int64_t large_count = 0;

  Prepared(std::int64_t inputs, void* scratch)
      : stride(round_up(inputs, kGroupInputs)),
        codes(static_cast<std::byte*>(scratch)),
        high(codes + kMostRows * stride),
        low(high + kMostRows * stride),
        small(reinterpret_cast<std::uint16_t*>(low + kMostRows * stride)),
        large(small + stride / kBlockInputs + kListPadding) {}

  static std::int64_t bytes(std::int64_t inputs) {
    const std::int64_t stride = round_up(inputs, kGroupInputs);
    return 3 * kMostRows * stride + 2 * (stride / kBlockInputs + kListPadding) * 2;
  }
};

template <int ROWS>
void prepare(const LinearArgs& args, std::int64_t m, Prepared& to) {
  List small(to.small);
  List large(to.large);
  const std::uint8_t* x = args.x + m * args.x_stride;
  for (std::int64_t k = 0; k < to.stride; k += kGroupInputs) {
    __m256i any = _mm256_setzero_si256();
    unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
      const __m256i codes = load_codes(x + r * args.x_stride, k, args.w.inputs);
      any = _mm256_or_si256(any, codes);
      const Halves halves = split(codes);
      const std::int64_t at = r * to.stride + k;
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to.codes + at), codes);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to.high + at), halves.high);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to.low + at), halves.low);
    });
    const int live = nonzero_lanes(any);
    const int above = nonzero_lanes(_mm256_and_si256(any, _mm256_set1_epi8(-128)));
    small.add(k / kBlockInputs, live & ~above);
    large.add(k / kBlockInputs, above);
  }
  to.small_count = small.count();
  to.large_count = large.count();
}

template <int ROWS, int PANELS>
using Sums = __m256i[PANELS][ROWS][2];

template <int ROWS, int PANELS>
FASTMNIST_INLINE void add_small(Sums<ROWS, PANELS>& acc, const Prepared& x,
                                const std::byte* weights, std::int64_t stride) {
  for (std::int64_t i = 0; i < x.small_count; ++i) {
    const std::int64_t q = x.small[i];
    const std::byte* block = weights + q * kBlockBytes;
    unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
      const __m256i codes = broadcast_quad(x.codes + r * x.stride + q * kBlockInputs);
      unrolled<PANELS>([&](auto p) FASTMNIST_INLINE_BODY {
        add_byte_products(acc[p][r][0], codes, block + p * stride);
        add_byte_products(acc[p][r][1], codes, block + p * stride + 32);
      });
    });
  }
}

template <int ROWS, int PANELS>
FASTMNIST_INLINE void add_large(Sums<ROWS, PANELS>& acc, const Prepared& x,
                                const std::byte* weights, std::int64_t stride) {
  SplitSums sums[PANELS][ROWS][2];
  const auto each = [](const auto& body) FASTMNIST_INLINE_BODY {
    unrolled<PANELS>([&](auto p) FASTMNIST_INLINE_BODY {
      unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
        unrolled<2>([&](auto half) FASTMNIST_INLINE_BODY { body(p, r, half); });
      });
    });
  };
  each([&](auto p, auto r, auto half) FASTMNIST_INLINE_BODY {
    sums[p][r][half] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  });
  for (std::int64_t i = 0; i < x.large_count;) {
    const std::int64_t end = x.large_count - i < kMostLows ? x.large_count : i + kMostLows;
    for (; i < end; ++i) {
      const std::int64_t q = x.large[i];
      const std::byte* block = weights + q * kBlockBytes;
      Halves codes[ROWS];
      unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
        codes[r] = {broadcast_quad(x.high + r * x.stride + q * kBlockInputs),
                    broadcast_quad(x.low + r * x.stride + q * kBlockInputs)};
      });
      unrolled<PANELS>([&](auto p) FASTMNIST_INLINE_BODY {
        unrolled<2>([&](auto half) FASTMNIST_INLINE_BODY {
          const __m256i w = load_bytes(block + p * stride + half * 32);
          unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
            add_split_products(sums[p][r][half], codes[r], w);
          });
        });
      });
    }
    each([&](auto p, auto r, auto half)
             FASTMNIST_INLINE_BODY { flush_low(sums[p][r][half], acc[p][r][half]); });
  }
  each([&](auto p, auto r, auto half) FASTMNIST_INLINE_BODY {
    acc[p][r][half] = whole_sums(sums[p][r][half], acc[p][r][half]);
  });
}

template <int ROWS, int PANELS, Output O>
void tile(const LinearArgs& args, const Prepared& x, std::int64_t m, std::int64_t panel) {
  const std::int64_t stride = args.w.dense.stride;
  const std::byte* weights = args.w.dense.panels + panel * stride;
  Sums<ROWS, PANELS> acc;
  unrolled<PANELS>([&](auto p) FASTMNIST_INLINE_BODY { clear(acc[p]); });
  add_small<ROWS, PANELS>(acc, x, weights, stride);
  add_large<ROWS, PANELS>(acc, x, weights, stride);
  unrolled<PANELS>([&](auto p)
                       FASTMNIST_INLINE_BODY { finish<O, ROWS>(args, m, panel + p, acc[p]); });
}

template <int ROWS, Output O>
void rows_of(const LinearArgs& args, std::int64_t m) {
  constexpr int PANELS = ROWS == 1 ? 2 : 1;
  Prepared x(args.w.inputs, args.scratch);
  prepare<ROWS>(args, m, x);
  const std::int64_t panels = panels_of(args.w.outputs);
  std::int64_t panel = 0;
  for (; panel + PANELS <= panels; panel += PANELS) tile<ROWS, PANELS, O>(args, x, m, panel);
  for (; panel < panels; ++panel) tile<ROWS, 1, O>(args, x, m, panel);
}

template <Output O>
void linear(const LinearArgs& args) {
  std::int64_t m = 0;
  for (; m + kMostRows <= args.rows; m += kMostRows) rows_of<kMostRows, O>(args, m);
  if (m < args.rows) rows_of<1, O>(args, m);
}

constexpr LinearKernel kLinears[] = {
    {"avx2", "split", kMostRows, 1, WeightForm::kDense, kFewestRows, nullptr, nullptr,
     [](const LinearShape& shape) { return Prepared::bytes(shape.inputs); },
     linear<Output::kFloats>, by_saturation<linear<Output::kSaturate>, linear<Output::kCodes>>}};

}  // namespace

extern const KernelPart kAvx2FewPart;
const KernelPart kAvx2FewPart = {"avx2", 0, nullptr, nullptr, kLinears, 1};

}  // namespace fastmnist
