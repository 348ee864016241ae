// AVX-512 kernels for sparse weights (drawn in core/types.h): for processors with VBMI and VBMI2.
//
// Both compute exactly what the dense kernels do, as zeros add nothing to an integer sum. Neither
// is bound by products: a bitmask by its decoding, three instructions on port 5 for 64 weights
// (KMOV, and VPEXPANDB's two); picks by reading 128 bytes for up to 64 non-zero weights, and by
// VPERMI2B, two on port 5. So weights are decoded once for up to eight (four) rows.
#include "core/features.h"
#include "core/types.h"
#include "kernels/pick_range.h"
#include "kernels/sizes.h"
#include "kernels/unroll.h"
#include "kernels/x86/avx512_decoded.h"
#include "kernels/x86/avx512_epilogue.h"
#include "kernels/x86/expand.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

// A window of a row: inputs 0..63 and 64..127 of it.
struct Window {
  __m512i low, high;
};

// Where rows are shorter than a window there is but one, which ends in zeros.
template <int ROWS, bool SHORT>
class Windows {
 public:
  FASTMNIST_INLINE Windows(const LinearArgs& args, std::int64_t m)
      : x_(args.x + m * args.x_stride),
        stride_(args.x_stride),
        starts_(args.w.picks.window_starts),
        last_(args.w.inputs > kPickShape.window ? args.w.inputs - kPickShape.window : 0) {
    if constexpr (SHORT) {
      const auto first = [](std::int64_t n) {
        return n >= 64 ? ~__mmask64{0} : n <= 0 ? __mmask64{0} : (__mmask64{1} << n) - 1;
      };
      unrolled<ROWS>([&](auto r) {
        only_[r] = {_mm512_maskz_loadu_epi8(first(args.w.inputs), x_ + r * stride_),
                    _mm512_maskz_loadu_epi8(first(args.w.inputs - 64), x_ + r * stride_ + 64)};
      });
    }
  }

  // Of a block; bounded, as packed bytes may come from anywhere.
  FASTMNIST_INLINE void find(std::int64_t block) {
    if constexpr (!SHORT) {
      const std::int64_t said = starts_[block];
      at_ = x_ + (said < last_ ? said : last_);
    }
  }

  FASTMNIST_INLINE Window operator[](int row) const {
    if constexpr (SHORT) return only_[row];
    return {_mm512_loadu_si512(at_ + row * stride_), _mm512_loadu_si512(at_ + row * stride_ + 64)};
  }

 private:
  const std::uint8_t* x_;
  std::int64_t stride_;
  const std::uint16_t* starts_;
  std::int64_t last_;
  const std::uint8_t* at_ = nullptr;
  Window only_[SHORT ? ROWS : 1];
};

template <int ROWS, bool SHORT>
FASTMNIST_INLINE void add_picks(__m512i (&acc)[ROWS], Windows<ROWS, SHORT>& windows,
                                const LinearArgs& args, std::int64_t block) {
  const std::byte* data = args.w.picks.blocks + block * kPickShape.block_bytes;
  const __m512i picks = _mm512_loadu_si512(data);
  const __m512i w = _mm512_loadu_si512(data + kBlockBytes);
  windows.find(block);
  unrolled<ROWS>([&](auto r) {
    const Window window = windows[r];
    const __m512i picked = _mm512_permutex2var_epi8(window.low, picks, window.high);
    acc[r] = _mm512_dpbusd_epi32(acc[r], picked, w);
  });
}

template <int ROWS, bool SHORT, Output O>
void pick_rows(const LinearArgs& args, std::int64_t m, std::int64_t panel) {
  constexpr int TURNS = ROWS <= 2 ? 2 : 1;
  Windows<ROWS, SHORT> windows(args, m);
  const BlockRange range = blocks_of(args.w.picks, panel);
  const std::int64_t end = range.end;
  std::int64_t block = range.begin;
  __m512i acc[TURNS][ROWS];
  unrolled<TURNS>(
      [&](auto t) { unrolled<ROWS>([&](auto r) { acc[t][r] = _mm512_setzero_si512(); }); });
  for (; block + TURNS <= end; block += TURNS)
    unrolled<TURNS>([&](auto t) { add_picks(acc[t], windows, args, block + t); });
  for (; block < end; ++block) add_picks(acc[0], windows, args, block);
  unrolled<TURNS>([&](auto t) {
    if constexpr (t > 0)
      unrolled<ROWS>([&](auto r) { acc[0][r] = _mm512_add_epi32(acc[0][r], acc[t][r]); });
  });
  finish<ROWS, O>(args, m, panel, acc[0]);
}

template <bool SHORT, Output O>
constexpr RowsOfPanel kPicks[4] = {pick_rows<1, SHORT, O>, pick_rows<2, SHORT, O>,
                                   pick_rows<3, SHORT, O>, pick_rows<4, SHORT, O>};

template <Output O>
void bitmask(const LinearArgs& args) {
  over_panels<8, kDecodedRows<MaskedValues, O>>(args);
}

template <Output O>
void picks(const LinearArgs& args) {
  if (args.w.inputs < kPickShape.window)
    over_panels<4, kPicks<true, O>>(args);
  else
    over_panels<4, kPicks<false, O>>(args);
}

constexpr LinearKernel kLinears[] = {
    {"avx512_vnni", "", 8, 1, WeightForm::kBitmask, kFewestRows, nullptr, nullptr, nullptr,
     bitmask<Output::kFloats>, by_saturation<bitmask<Output::kSaturate>, bitmask<Output::kCodes>>},
    {"avx512_vnni", "", 4, 1, WeightForm::kPicks, kFewestRows, nullptr, nullptr, nullptr,
     picks<Output::kFloats>, by_saturation<picks<Output::kSaturate>, picks<Output::kCodes>>}};

}  // namespace

extern const KernelPart kAvx512SparsePart;
const KernelPart kAvx512SparsePart = {
    "avx512_vnni", kAvx512Vbmi | kAvx512Vbmi2, nullptr, nullptr, kLinears, 2};

}  // namespace fastmnist
