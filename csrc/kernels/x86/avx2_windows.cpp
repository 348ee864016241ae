// AVX2 kernels for sparse weights in windows (core/layouts.h): what a call costs goes by the
// weights that are not zero.
//
// A block is 8 outputs x 4 slots: 32 picks out of a window of 32 or 64 inputs, and 32 weights.
// VPSHUFB picks from 16 bytes, so a window is picked from two or four times; where the top bit of a
// pick is set, 0 comes. Picks from a window of 32 are stored for that:
//
//     pick  (0x70 + place)     place 0..15: 0x70..0x7f     place 16..31: 0x80..0x8f
//     lower 16 inputs          picked                      0
//     upper 16, top bit        0                           picked
//     of the pick flipped
//
// From a window of 64 each 16 inputs need their own: the place less where they begin, plus 0x70,
// saturated, has the top bit clear for them alone. That is twice the work per weight, and worth it
// where windows of 32 have few weights to pick: fewer bytes are read. The codes that were picked
// are split into 7 bits and 1 bit (avx2_products.h).

#include "core/types.h"
#include "kernels/pick_range.h"
#include "kernels/sizes.h"
#include "kernels/unroll.h"
#include "kernels/x86/avx2_epilogue.h"
#include "kernels/x86/avx2_products.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

constexpr int kMostRows = 2;

// Rows that are shorter than a window, ending in zeros, or where the rows are.
template <int ROWS, std::int64_t WINDOW>
class Windows {
 public:
  FASTMNIST_INLINE Windows(const LinearArgs& args, std::int64_t m)
      : x_(args.x + m * args.x_stride),
        stride_(args.x_stride),
        starts_(args.w.picks.window_starts),
        last_(args.w.inputs > WINDOW ? args.w.inputs - WINDOW : 0) {
    if (args.w.inputs >= WINDOW) return;
    for (int r = 0; r < ROWS; ++r)
      for (std::int64_t k = 0; k < WINDOW; ++k)
        short_[r][k] = k < args.w.inputs ? x_[r * stride_ + k] : std::uint8_t{0};
    x_ = short_[0];
    stride_ = WINDOW;
  }

  // Of a block; bounded, as packed bytes may come from anywhere.
  FASTMNIST_INLINE const std::uint8_t* at(std::int64_t block) const {
    const std::int64_t said = starts_[block];
    return x_ + (said < last_ ? said : last_);
  }
  std::int64_t stride() const { return stride_; }

 private:
  const std::uint8_t* x_;
  std::int64_t stride_;
  const std::uint16_t* starts_;
  std::int64_t last_;
  alignas(16) std::uint8_t short_[ROWS][WINDOW];
};

FASTMNIST_INLINE __m256i both_lanes(const std::uint8_t* p) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

// A block's picks, as the shuffles of a window of 32 or 64 inputs take them.
template <std::int64_t WINDOW>
struct Picks {
  __m256i of[WINDOW / 16];

  FASTMNIST_INLINE explicit Picks(__m256i stored) {
    if constexpr (WINDOW == 32) {
      of[0] = stored;
      of[1] = _mm256_xor_si256(stored, _mm256_set1_epi8(static_cast<char>(0x80)));
    } else {
      unrolled<WINDOW / 16>([&](auto i) FASTMNIST_INLINE_BODY {
        const __m256i place = _mm256_sub_epi8(stored, _mm256_set1_epi8(16 * i));
        of[i] = _mm256_adds_epu8(place, _mm256_set1_epi8(0x70));
      });
    }
  }

  FASTMNIST_INLINE __m256i from(const std::uint8_t* row) const {
    __m256i codes = _mm256_shuffle_epi8(both_lanes(row), of[0]);
    unrolled<WINDOW / 16 - 1>([&](auto i) FASTMNIST_INLINE_BODY {
      codes =
          _mm256_or_si256(codes, _mm256_shuffle_epi8(both_lanes(row + 16 * (i + 1)), of[i + 1]));
    });
    return codes;
  }
};

// Sums of ROWS rows by 8 outputs.
template <int ROWS, const PickShape& SHAPE>
FASTMNIST_INLINE void multiply(const LinearArgs& args, std::int64_t m, std::int64_t half,
                               __m256i (&acc)[ROWS]) {
  const PickPanels& picks = args.w.picks;
  const Windows<ROWS, SHAPE.window> windows(args, m);
  const BlockRange range = blocks_of(picks, half);
  const std::int64_t end = range.end;
  std::int64_t block = range.begin;
  SplitSums sums[ROWS];
  unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
    sums[r] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    acc[r] = _mm256_setzero_si256();
  });
  while (block < end) {
    const std::int64_t stop = end - block < kMostLows ? end : block + kMostLows;
    for (; block < stop; ++block) {
      const std::byte* data = picks.blocks + block * SHAPE.block_bytes;
      const Picks<SHAPE.window> picked(load_bytes(data));
      const __m256i w = load_bytes(data + SHAPE.picks);
      const std::uint8_t* x = windows.at(block);
      unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
        add_split_products(sums[r], split(picked.from(x + r * windows.stride())), w);
      });
    }
    unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY { flush_low(sums[r], acc[r]); });
  }
  unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY { acc[r] = whole_sums(sums[r], acc[r]); });
}

// A panel is two blocks wide.
template <int ROWS, const PickShape& SHAPE, Output O>
void panel_of(const LinearArgs& args, std::int64_t m, std::int64_t panel) {
  __m256i low[ROWS];
  __m256i high[ROWS];
  multiply<ROWS, SHAPE>(args, m, 2 * panel, low);
  if (args.w.outputs - panel * kPanelOutputs > kLanes) {
    multiply<ROWS, SHAPE>(args, m, 2 * panel + 1, high);
  } else {
    unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY { high[r] = _mm256_setzero_si256(); });
  }
  __m256i acc[ROWS][2];
  unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
    acc[r][0] = low[r];
    acc[r][1] = high[r];
  });
  finish<O, ROWS>(args, m, panel, acc);
}

using PanelOf = void (*)(const LinearArgs&, std::int64_t m, std::int64_t panel);
template <const PickShape& SHAPE, Output O>
constexpr PanelOf kPanelOf[kMostRows] = {panel_of<1, SHAPE, O>, panel_of<2, SHAPE, O>};

template <const PickShape& SHAPE, Output O>
void linear(const LinearArgs& args) {
  for (std::int64_t panel = 0; panel < panels_of(args.w.outputs); ++panel)
    for (std::int64_t m = 0; m < args.rows; m += kMostRows) {
      const std::int64_t left = args.rows - m;
      kPanelOf<SHAPE, O>[(left < kMostRows ? left : kMostRows) - 1](args, m, panel);
    }
}

template <const PickShape& SHAPE>
constexpr LinearKernel kernel(WeightForm form) {
  return {"avx2",
          "",
          kMostRows,
          1,
          form,
          kFewestRows,
          nullptr,
          nullptr,
          nullptr,
          linear<SHAPE, Output::kFloats>,
          by_saturation<linear<SHAPE, Output::kSaturate>, linear<SHAPE, Output::kCodes>>};
}

constexpr LinearKernel kLinears[] = {kernel<kWindowShape>(WeightForm::kWindows),
                                     kernel<kWideWindowShape>(WeightForm::kWideWindows)};

}  // namespace

extern const KernelPart kAvx2WindowsPart;
const KernelPart kAvx2WindowsPart = {"avx2", 0, nullptr, nullptr, kLinears, 2};

}  // namespace fastmnist
