// AVX2 kernel for sparse weights in windows (core/layouts.h): what a call costs goes by the weights
// that are not zero.
//
// A block is 8 outputs x 4 slots: 32 picks out of a window of 32 inputs, and 32 weights. VPSHUFB
// picks from 16 bytes, so a window is picked from twice; where the top bit of a pick is set, 0
// comes:
//
//     pick  (0x70 + place)     place 0..15: 0x70..0x7f     place 16..31: 0x80..0x8f
//     lower 16 inputs          picked                      0
//     upper 16, top bit        0                           picked
//     of the pick flipped
//
// The codes that were picked are split into 7 bits and 1 bit (avx2_products.h).
#include "core/types.h"
#include "kernels/sizes.h"
#include "kernels/unroll.h"
#include "kernels/x86/avx2_epilogue.h"
#include "kernels/x86/avx2_products.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

constexpr int kMostRows = 4;
constexpr std::int64_t kWindow = kWindowShape.window;

// Rows that are shorter than a window, ending in zeros, or where the rows are.
template <int ROWS>
class Windows {
 public:
  FASTMNIST_INLINE Windows(const LinearArgs& args, std::int64_t m)
      : x_(args.x + m * args.x_stride),
        stride_(args.x_stride),
        starts_(args.w.picks.window_starts),
        last_(args.w.inputs > kWindow ? args.w.inputs - kWindow : 0) {
    if (args.w.inputs >= kWindow) return;
    for (int r = 0; r < ROWS; ++r)
      for (std::int64_t k = 0; k < kWindow; ++k)
        short_[r][k] = k < args.w.inputs ? x_[r * stride_ + k] : std::uint8_t{0};
    x_ = short_[0];
    stride_ = kWindow;
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
  alignas(16) std::uint8_t short_[ROWS][kWindow];
};

FASTMNIST_INLINE __m256i both_lanes(const std::uint8_t* p) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

// Sums of ROWS rows by 8 outputs.
template <int ROWS>
FASTMNIST_INLINE void multiply(const LinearArgs& args, std::int64_t m, std::int64_t half,
                               __m256i (&acc)[ROWS]) {
  const PickPanels& picks = args.w.picks;
  const Windows<ROWS> windows(args, m);
  const auto bounded = [&picks](std::uint64_t block) {
    const auto count = static_cast<std::uint64_t>(picks.block_count);
    return static_cast<std::int64_t>(block < count ? block : count);
  };
  std::int64_t block = bounded(picks.starts[half]);
  const std::int64_t end = bounded(picks.starts[half + 1]);
  const __m256i top = _mm256_set1_epi8(static_cast<char>(0x80));
  SplitSums sums[ROWS];
  unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
    sums[r] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    acc[r] = _mm256_setzero_si256();
  });
  while (block < end) {
    const std::int64_t stop = end - block < kMostLows ? end : block + kMostLows;
    for (; block < stop; ++block) {
      const std::byte* data = picks.blocks + block * kWindowShape.block_bytes;
      const __m256i lower = load_bytes(data);
      const __m256i upper = _mm256_xor_si256(lower, top);
      const __m256i w = load_bytes(data + kWindowShape.picks);
      const std::uint8_t* x = windows.at(block);
      unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
        const std::uint8_t* row = x + r * windows.stride();
        const __m256i codes =
            _mm256_or_si256(_mm256_shuffle_epi8(both_lanes(row), lower),
                            _mm256_shuffle_epi8(both_lanes(row + kWindow / 2), upper));
        add_split_products(sums[r], split(codes), w);
      });
    }
    unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY { flush_low(sums[r], acc[r]); });
  }
  unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY { acc[r] = whole_sums(sums[r], acc[r]); });
}

// A panel is two blocks wide.
template <int ROWS, Output O>
void panel_of(const LinearArgs& args, std::int64_t m, std::int64_t panel) {
  __m256i low[ROWS];
  __m256i high[ROWS];
  multiply<ROWS>(args, m, 2 * panel, low);
  if (args.w.outputs - panel * kPanelOutputs > kLanes) {
    multiply<ROWS>(args, m, 2 * panel + 1, high);
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
template <Output O>
constexpr PanelOf kPanelOf[kMostRows] = {panel_of<1, O>, panel_of<2, O>, panel_of<3, O>,
                                         panel_of<4, O>};

template <Output O>
void linear(const LinearArgs& args) {
  for (std::int64_t panel = 0; panel < panels_of(args.w.outputs); ++panel)
    for (std::int64_t m = 0; m < args.rows; m += kMostRows) {
      const std::int64_t left = args.rows - m;
      kPanelOf<O>[(left < kMostRows ? left : kMostRows) - 1](args, m, panel);
    }
}

constexpr LinearKernel kLinears[] = {
    {"avx2", "", kMostRows, 1, WeightForm::kWindows, kFewestRows, nullptr, nullptr, nullptr,
     linear<Output::kFloats>, by_saturation<linear<Output::kSaturate>, linear<Output::kCodes>>}};

}  // namespace

extern const KernelPart kAvx2WindowsPart;
const KernelPart kAvx2WindowsPart = {"avx2", 0, nullptr, nullptr, kLinears, 1};

}  // namespace fastmnist
