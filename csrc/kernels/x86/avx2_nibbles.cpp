// AVX2 linear kernels for weights in nibbles (core/layouts.h), of 4 bits or 16 clusters.
//
// Reading is what layers from far away take their time for, and there is half as much to read:
// VPSHUFB looks 32 weights up. One or two rows decode in the loop; pairs of quads that are zero in
// both rows are left out. Where all weights are at most 8 in magnitude, sums stay in 16 bits for
// four pairs (avx2_narrow.cpp); others are multiplied by codes in two parts (avx2_products.h).
//
//     32 bytes of a pair, half a panel  ── & 15 ──► quad 2p  ── shuffle ──► weights
//                                       ── >> 4, & 15 ──► quad 2p + 1 ───► weights
//
// More rows have panels decoded into scratch memory, and go by the kernels for dense weights.
#include "core/types.h"
#include "kernels/sizes.h"
#include "kernels/unroll.h"
#include "kernels/x86/avx2_epilogue.h"
#include "kernels/x86/avx2_live.h"
#include "kernels/x86/avx2_products.h"
#include "kernels/x86/decoded_panels.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {

extern const KernelPart kAvx2NarrowPart;
extern const KernelPart kAvx2RowsPart;

namespace {

constexpr int kMostRows = 2;
constexpr std::int64_t kPairInputs = 2 * kBlockInputs;

// Looks weights up.
class Decoder {
 public:
  explicit Decoder(const Weights& w)
      : table_(_mm256_broadcastsi128_si256(
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(w.nibbles.table)))) {}

  // Of 32 bytes, the first or the second quad.
  FASTMNIST_INLINE __m256i first(__m256i both) const {
    return _mm256_shuffle_epi8(table_, _mm256_and_si256(both, _mm256_set1_epi8(15)));
  }
  FASTMNIST_INLINE __m256i second(__m256i both) const { return first(_mm256_srli_epi16(both, 4)); }

 private:
  __m256i table_;
};

int most_of(const Weights& w) {
  int most = 0;
  for (int i = 0; i < kMostNibbleValues; ++i) {
    const int value = w.nibbles.table[i];
    most = value > most ? value : -value > most ? -value : most;
  }
  return most;
}

// Rows as a call reads them: whole, in two parts, and the list of their live pairs (by first quad).
struct Prepared {
  std::int64_t stride;
  std::byte* codes;
  std::byte* high;
  std::byte* low;
  std::uint16_t* pairs;
  std::int64_t count = 0;

  Prepared(std::int64_t inputs, void* scratch)
      : stride(round_up(inputs, kGroupInputs)),
        codes(static_cast<std::byte*>(scratch)),
        high(codes + kMostRows * stride),
        low(high + kMostRows * stride),
        pairs(reinterpret_cast<std::uint16_t*>(low + kMostRows * stride)) {}

  static std::int64_t bytes(std::int64_t inputs) {
    const std::int64_t stride = round_up(inputs, kGroupInputs);
    return 3 * kMostRows * stride + (stride / kBlockInputs + kListPadding) * 2;
  }

  template <int ROWS>
  void fill(const LinearArgs& args, std::int64_t m) {
    List live(pairs);
    const std::uint8_t* x = args.x + m * args.x_stride;
    for (std::int64_t k = 0; k < stride; k += kGroupInputs) {
      __m256i any = _mm256_setzero_si256();
      unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
        const __m256i row = load_codes(x + r * args.x_stride, k, args.w.inputs);
        any = _mm256_or_si256(any, row);
        const Halves halves = split(row);
        const std::int64_t at = r * stride + k;
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + at), row);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(high + at), halves.high);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(low + at), halves.low);
      });
      const int quads = nonzero_lanes(any);
      live.add(k / kBlockInputs, (quads | quads >> 1) & 0x55);
    }
    count = live.count();
  }
};

// Half a panel, weights of at most 8.
template <int ROWS>
FASTMNIST_INLINE void add_narrow(__m256i (&acc)[ROWS][2], const Prepared& x, const Decoder& decoder,
                                 const std::byte* panel) {
  constexpr std::int64_t kPairs = 4;
  for (std::int64_t i = 0; i < x.count;) {
    const std::int64_t stop = x.count - i < kPairs ? x.count : i + kPairs;
    __m256i shorts[ROWS][2];
    clear(shorts);
    for (; i < stop; ++i) {
      const std::int64_t quad = x.pairs[i];
      const std::byte* from = panel + quad / 2 * kBlockBytes;
      const std::byte* row = x.codes + quad * kBlockInputs;
      unrolled<2>([&](auto half) FASTMNIST_INLINE_BODY {
        const __m256i both = load_bytes(from + half * 32);
        const __m256i first = decoder.first(both);
        const __m256i second = decoder.second(both);
        unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
          add_short_products(shorts[r][half], broadcast_quad(row + r * x.stride), first);
          add_short_products(shorts[r][half], broadcast_quad(row + r * x.stride + kBlockInputs),
                             second);
        });
      });
    }
    unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
      unrolled<2>([&](auto half) FASTMNIST_INLINE_BODY {
        const __m256i wide = _mm256_madd_epi16(shorts[r][half], _mm256_set1_epi16(1));
        acc[r][half] = _mm256_add_epi32(acc[r][half], wide);
      });
    });
  }
}

// Any weights, of half a panel or of both halves (for one row; two have no registers for that).
template <int ROWS, int FIRST, int HALVES>
FASTMNIST_INLINE void add_any(__m256i (&acc)[ROWS][2], const Prepared& x, const Decoder& decoder,
                              const std::byte* panel) {
  SplitSums sums[ROWS][HALVES];
  const auto each = [](const auto& body) FASTMNIST_INLINE_BODY {
    unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
      unrolled<HALVES>([&](auto h) FASTMNIST_INLINE_BODY { body(r, h); });
    });
  };
  each([&](auto r, auto h) FASTMNIST_INLINE_BODY {
    sums[r][h] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  });
  for (std::int64_t i = 0; i < x.count;) {
    const std::int64_t stop = x.count - i < kMostLows / 2 ? x.count : i + kMostLows / 2;
    for (; i < stop; ++i) {
      const std::int64_t quad = x.pairs[i];
      const std::byte* from = panel + quad / 2 * kBlockBytes + FIRST * 32;
      const auto codes = [&](int r, int which) FASTMNIST_INLINE_BODY {
        const std::int64_t at = r * x.stride + (quad + which) * kBlockInputs;
        return Halves{broadcast_quad(x.high + at), broadcast_quad(x.low + at)};
      };
      unrolled<HALVES>([&](auto h) FASTMNIST_INLINE_BODY {
        const __m256i both = load_bytes(from + h * 32);
        const __m256i first = decoder.first(both);
        const __m256i second = decoder.second(both);
        unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
          add_split_products(sums[r][h], codes(r, 0), first);
          add_split_products(sums[r][h], codes(r, 1), second);
        });
      });
    }
    each([&](auto r, auto h) FASTMNIST_INLINE_BODY { flush_low(sums[r][h], acc[r][FIRST + h]); });
  }
  each([&](auto r, auto h) FASTMNIST_INLINE_BODY {
    acc[r][FIRST + h] = whole_sums(sums[r][h], acc[r][FIRST + h]);
  });
}

template <int ROWS, Output O>
void rows_of(const LinearArgs& args, std::int64_t m, bool narrow) {
  Prepared x(args.w.inputs, args.scratch);
  x.fill<ROWS>(args, m);
  const Decoder decoder(args.w);
  for (std::int64_t panel = 0; panel < panels_of(args.w.outputs); ++panel) {
    const std::byte* indices = args.w.nibbles.panels + panel * args.w.nibbles.stride;
    __m256i acc[ROWS][2];
    clear(acc);
    if (narrow) {
      add_narrow<ROWS>(acc, x, decoder, indices);
    } else if constexpr (ROWS == 1) {
      add_any<ROWS, 0, 2>(acc, x, decoder, indices);
    } else {
      add_any<ROWS, 0, 1>(acc, x, decoder, indices);
      add_any<ROWS, 1, 1>(acc, x, decoder, indices);
    }
    finish<O, ROWS>(args, m, panel, acc);
  }
}

template <Output O>
void in_loop(const LinearArgs& args) {
  const bool narrow = most_of(args.w) <= 8;
  std::int64_t m = 0;
  for (; m + kMostRows <= args.rows; m += kMostRows) rows_of<kMostRows, O>(args, m, narrow);
  if (m < args.rows) rows_of<1, O>(args, m, narrow);
}

const LinearKernel& dense_kernel(int most_weight) {
  return most_weight <= 8 ? kAvx2NarrowPart.linears[0] : kAvx2RowsPart.linears[0];
}

template <Output O>
void by_panels(const LinearArgs& args) {
  const LinearKernel& dense = dense_kernel(most_of(args.w));
  const Decoder decoder(args.w);
  by_decoded_panels(args, O == Output::kFloats ? dense.linear_f32 : dense.linear_u8,
                    O == Output::kFloats ? sizeof(float) : 1,
                    [&](std::int64_t panel, std::byte* to) {
                      const std::byte* from = args.w.nibbles.panels + panel * args.w.nibbles.stride;
                      for (std::int64_t k = 0; k < args.w.padded_inputs; k += kPairInputs) {
                        unrolled<2>([&](auto half) FASTMNIST_INLINE_BODY {
                          const __m256i both = load_bytes(from + half * 32);
                          auto* const first = reinterpret_cast<__m256i*>(to) + half;
                          _mm256_storeu_si256(first, decoder.first(both));
                          _mm256_storeu_si256(first + 2, decoder.second(both));
                        });
                        from += kBlockBytes;
                        to += 2 * kBlockBytes;
                      }
                    });
}

// Of either dense kernel, as the shape does not tell the table.
std::int64_t panels_scratch(const LinearShape& shape) {
  const std::int64_t narrow = decoded_scratch(shape, dense_kernel(1));
  const std::int64_t any = decoded_scratch(shape, dense_kernel(128));
  return narrow > any ? narrow : any;
}

constexpr LinearKernel kLinears[] = {
    {"avx2", "decoded", 6, 1, WeightForm::kNibbles, kFewRows | kManyRows, nullptr,
     [](const LinearShape& shape) { return shape.rows > kMostRows; }, panels_scratch,
     by_panels<Output::kFloats>, by_panels<Output::kCodes>},
    {"avx2", "", kMostRows, 1, WeightForm::kNibbles, kFewestRows, nullptr, nullptr,
     [](const LinearShape& shape) { return Prepared::bytes(shape.inputs); },
     in_loop<Output::kFloats>, by_saturation<in_loop<Output::kSaturate>, in_loop<Output::kCodes>>}};

}  // namespace

extern const KernelPart kAvx2NibblesPart;
const KernelPart kAvx2NibblesPart = {"avx2", 0, nullptr, nullptr, kLinears, 2};

}  // namespace fastmnist
