// AMX linear kernel for few rows, or few inputs: strips of 16 rows x 4 panels.
//
//              p     p+1     p+2     p+3
//     rows  +-------+-------+-------+-------+     up to 128 inputs: the rows' codes stay in tmm4
//     0..15 | tmm0  | tmm1  | tmm2  | tmm3  |     and tmm5 for the whole strip
//           +-------+-------+-------+-------+
//
// With more inputs weights stream by once per 16 rows: with one strip, at the speed of memory.
#pragma once

#include "kernels/sizes.h"
#include "kernels/x86/amx_codes.h"
#include "kernels/x86/amx_epilogue.h"
#include "kernels/x86/amx_memory.h"

namespace fastmnist {
namespace {

constexpr std::int64_t kStripPanels = 4;
constexpr std::int64_t kStripOutputs = kStripPanels * kPanelOutputs;

template <Output O>
class Strips {
 public:
  explicit Strips(const TileArgs& args)
      : args_(args),
        working_(args),
        epilogue_(args),
        steps_(args.w.padded_inputs / kTileInputs),
        prefetch_(args, steps_ * divide_up(args.rows, kTileRows) *
                            divide_up(args.w.outputs, kStripOutputs)) {}

  void run() {
    if (steps_ <= 2)
      panels_first();
    else
      rows_first();
    epilogue_.finish();
  }

 private:
  using Epilogue = BlockEpilogue<O, kTileRows, kStripPanels>;

  // Four panels over all rows, then the next four: with few inputs, the weights of four (8 KB) stay
  // in the first-level cache along with the codes. All weights would not: they are as large as it.
  void panels_first() {
    for (std::int64_t first = 0; first < args_.w.outputs; first += kStripOutputs)
      for (std::int64_t m = 0; m < args_.rows; m += kTileRows) {
        codes_ = codes_of(args_, m, working_.copies);
        if (steps_ == 2) tile_load<4>(codes_.body, codes_.body_stride);
        tile_load<5>(codes_.tail, codes_.tail_stride);
        strip(m, first);
      }
  }

  // All panels over 16 rows, then over the next 16.
  void rows_first() {
    for (std::int64_t m = 0; m < args_.rows; m += kTileRows) {
      codes_ = codes_of(args_, m, working_.copies);
      for (std::int64_t first = 0; first < args_.w.outputs; first += kStripOutputs) strip(m, first);
    }
  }

  void strip(std::int64_t m, std::int64_t first) {
    const std::byte* w = args_.w.dense.panels + first / kPanelOutputs * args_.w.dense.stride;
    const std::int64_t left = args_.w.outputs - first;
    if (left > 3 * kPanelOutputs)
      multiply<4>(w);
    else if (left > 2 * kPanelOutputs)
      multiply<3>(w);
    else if (left > kPanelOutputs)
      multiply<2>(w);
    else
      multiply<1>(w);
    epilogue_.finish();
    epilogue_.start(working_.sums[turn_], m,
                    args_.rows - m < kTileRows ? args_.rows - m : kTileRows, first);
    turn_ ^= 1;
  }

  template <int P>
  FASTMNIST_INLINE void store_sums() {
    tile_store<P>(working_.sums[turn_] + P * Epilogue::kSumsOfPanel, 64);
  }

  template <int PANELS>
  void multiply(const std::byte* w) {
    const std::int64_t stride = args_.w.dense.stride;
    if (steps_ <= 2) {
      // The codes stay in tmm4 (if there are two steps) and tmm5.
      unrolled<PANELS>([&](auto p) {
        tile_zero<p>();
        const std::byte* panel = w + p * stride;
        if (steps_ == 2) {
          tile_load<6>(panel, 64);
          tile_multiply<p, 4, 6>();
          panel += kTileBytes;
        }
        tile_load<7>(panel, 64);
        tile_multiply<p, 5, 7>();
        prefetch_.step();
        epilogue_.step();
        if constexpr (p > 0) store_sums<p - 1>();
      });
      store_sums<PANELS - 1>();
      return;
    }
    unrolled<PANELS>([&](auto p) { tile_zero<p>(); });
    const std::uint8_t* x = codes_.body;
    for (std::int64_t s = 0; s < steps_; ++s, x += codes_.step, w += kTileBytes) {
      if (s + 1 < steps_)
        tile_load<4>(x, codes_.body_stride);
      else
        tile_load<4>(codes_.tail, codes_.tail_stride);
      unrolled<PANELS>([&](auto p) {
        tile_stream<6 + p % 2>(w + p * stride, 64);
        tile_multiply<p, 4, 6 + p % 2>();
      });
      prefetch_.step();
      epilogue_.step();
    }
    unrolled<PANELS>([&](auto p) { store_sums<p>(); });
  }

  const TileArgs& args_;
  Working working_;
  Epilogue epilogue_;
  std::int64_t steps_;
  Prefetch prefetch_;
  Codes codes_{};
  int turn_ = 0;
};

}  // namespace
}  // namespace fastmnist
