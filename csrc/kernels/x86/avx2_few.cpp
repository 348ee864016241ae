// AVX2 linear kernel for up to three rows: whole blocks of 4 inputs by VPMADDUBSW, those that are
// zero in all rows left out.
//
// Few rows cannot pay for widening weights. Codes are split into 7 bits and 1 bit instead
// (avx2_products.h), once for all panels; then a product needs no preparing at all:
//
//     codes  x = 2 * high + low     high [rows][K]   low [rows][K]   list of live quads
//
//     sums of 8 outputs  +=  VPMADDWD(VPMADDUBSW(high, w), 1)     32 bits
//     sums of low bits   +=  VPMADDUBSW(low, w)                   16 bits, for 64 quads
#include "core/types.h"
#include "kernels/sizes.h"
#include "kernels/unroll.h"
#include "kernels/x86/avx2_epilogue.h"
#include "kernels/x86/avx2_live.h"
#include "kernels/x86/avx2_products.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

constexpr int kMostRows = 3;

struct Prepared {
  std::int64_t stride;  // bytes from a row's codes to the next one's
  std::byte* high;
  std::byte* low;
  std::uint16_t* list;
  std::int64_t count;

  Prepared(std::int64_t inputs, void* scratch)
      : stride(round_up(inputs, kGroupInputs)),
        high(static_cast<std::byte*>(scratch)),
        low(high + kMostRows * stride),
        list(reinterpret_cast<std::uint16_t*>(low + kMostRows * stride)),
        count(0) {}

  static std::int64_t bytes(std::int64_t inputs) {
    const std::int64_t stride = round_up(inputs, kGroupInputs);
    return 2 * kMostRows * stride + (stride / kBlockInputs + kListPadding) * 2;
  }
};

template <int ROWS>
void prepare(const LinearArgs& args, std::int64_t m, Prepared& to) {
  List live(to.list);
  const std::uint8_t* x = args.x + m * args.x_stride;
  for (std::int64_t k = 0; k < to.stride; k += kGroupInputs) {
    __m256i any = _mm256_setzero_si256();
    unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
      const __m256i codes = load_codes(x + r * args.x_stride, k, args.w.inputs);
      any = _mm256_or_si256(any, codes);
      const Halves halves = split(codes);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to.high + r * to.stride + k), halves.high);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to.low + r * to.stride + k), halves.low);
    });
    live.add(k / kBlockInputs, any);
  }
  to.count = live.count();
}

template <int ROWS, int PANELS, Output O>
void tile(const LinearArgs& args, const Prepared& x, std::int64_t m, std::int64_t panel) {
  const std::int64_t stride = args.w.dense.stride;
  const std::byte* weights = args.w.dense.panels + panel * stride;
  SplitSums sums[ROWS][PANELS][2];
  __m256i acc[PANELS][ROWS][2];
  const auto each = [](const auto& body) FASTMNIST_INLINE_BODY {
    unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
      unrolled<PANELS>([&](auto p) FASTMNIST_INLINE_BODY {
        unrolled<2>([&](auto half) FASTMNIST_INLINE_BODY { body(r, p, half); });
      });
    });
  };
  each([&](auto r, auto p, auto half) FASTMNIST_INLINE_BODY {
    sums[r][p][half] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    acc[p][r][half] = _mm256_setzero_si256();
  });
  for (std::int64_t i = 0; i < x.count;) {
    const std::int64_t end = x.count - i < kMostLows ? x.count : i + kMostLows;
    for (; i < end; ++i) {
      const std::int64_t q = x.list[i];
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
            add_split_products(sums[r][p][half], codes[r], w);
          });
        });
      });
    }
    each([&](auto r, auto p, auto half)
             FASTMNIST_INLINE_BODY { flush_low(sums[r][p][half], acc[p][r][half]); });
  }
  each([&](auto r, auto p, auto half) FASTMNIST_INLINE_BODY {
    acc[p][r][half] = whole_sums(sums[r][p][half], acc[p][r][half]);
  });
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
  for (; m + kMostRows <= args.rows; m += kMostRows) rows_of<3, O>(args, m);
  if (args.rows - m == 2) rows_of<2, O>(args, m);
  if (args.rows - m == 1) rows_of<1, O>(args, m);
}

constexpr LinearKernel kLinears[] = {
    {"avx2", "split", kMostRows, 1, WeightForm::kDense, kFewestRows, nullptr, nullptr,
     [](const LinearShape& shape) { return Prepared::bytes(shape.inputs); },
     linear<Output::kFloats>, by_saturation<linear<Output::kSaturate>, linear<Output::kCodes>>}};

}  // namespace

extern const KernelPart kAvx2FewPart;
const KernelPart kAvx2FewPart = {"avx2", 0, nullptr, nullptr, kLinears, 1};

}  // namespace fastmnist
