// AMX linear kernel for layers of at most 16 outputs, as last layers are: 64 rows x 1 panel.
//
//               panel 0
//     rows  0.. +-------+
//               | tmm0  |       One panel is one accumulator per 16 rows, and a product waits 52
//          16.. | tmm1  |       cycles for the one before it into the same accumulator. So four
//          32.. | tmm2  |       tiles of rows take turns, and the weights are loaded once for all.
//          48.. | tmm3  |
//               +-------+
#pragma once

#include "kernels/sizes.h"
#include "kernels/x86/amx_codes.h"
#include "kernels/x86/amx_epilogue.h"
#include "kernels/x86/amx_memory.h"

namespace fastmnist {
namespace {

constexpr std::int64_t kColumnRows = 4 * kTileRows;

template <Output O>
class Columns {
 public:
  // With rows no closer than a tile is wide, only the last tile of all reads past the end of x:
  // there is one copy. (16 rows are one accumulator either way.)
  static bool can(const LinearShape& shape) {
    return shape.outputs <= kPanelOutputs && shape.rows > kTileRows && shape.inputs >= kTileInputs;
  }

  explicit Columns(const TileArgs& args)
      : args_(args),
        working_(args),
        epilogue_(args),
        steps_(args.w.padded_inputs / kTileInputs),
        prefetch_(args, steps_ * divide_up(args.rows, kColumnRows)) {}

  void run() {
    for (std::int64_t m = 0; m < args_.rows; m += kColumnRows, turn_ ^= 1) {
      const std::int64_t left = args_.rows - m;
      const std::int64_t rows = left < kColumnRows ? left : kColumnRows;
      if (rows > 3 * kTileRows)
        multiply<4>(m);
      else if (rows > 2 * kTileRows)
        multiply<3>(m);
      else if (rows > kTileRows)
        multiply<2>(m);
      else
        multiply<1>(m);
      epilogue_.finish();
      epilogue_.start(working_.sums[turn_], m, rows, 0);
    }
    epilogue_.finish();
  }

 private:
  using Epilogue = BlockEpilogue<O, kColumnRows, 1>;
  static_assert(Epilogue::kSumsBytes <= Working::kSumsBytes);

  template <int TILES>
  void multiply(std::int64_t m) {
    Codes codes[TILES];
    const std::uint8_t* x[TILES];
    unrolled<TILES>([&](auto t) {
      codes[t] = codes_of(args_, m + t * kTileRows, working_.copies);
      x[t] = codes[t].body;
      tile_zero<t>();
    });
    const std::byte* w = args_.w.dense.panels;
    const std::int64_t quanta = divide_up(Epilogue::kSteps, steps_);
    for (std::int64_t s = 0; s < steps_; ++s, w += kTileBytes) {
      const bool tail = s + 1 == steps_;
      tile_load<6>(w, 64);
      unrolled<TILES>([&](auto t) {
        tile_load<4 + t % 2>(tail ? codes[t].tail : x[t],
                             tail ? codes[t].tail_stride : codes[t].body_stride);
        tile_multiply<t, 4 + t % 2, 6>();
        x[t] += codes[t].step;
      });
      prefetch_.step();
      for (std::int64_t i = 0; i < quanta; ++i) epilogue_.step();
    }
    unrolled<TILES>(
        [&](auto t) { tile_store<t>(working_.sums[turn_] + t * kTileRows * kPanelOutputs, 64); });
  }

  const TileArgs& args_;
  Working working_;
  Epilogue epilogue_;
  std::int64_t steps_;
  Prefetch prefetch_;
  int turn_ = 0;
};

}  // namespace
}  // namespace fastmnist
