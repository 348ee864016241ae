// AMX linear kernel for many rows and many inputs: blocks of 32 rows x 2 panels (amx_step.h).
//
// A tile store right behind its last product stops the unit (52 ns for 8 products and 4 stores, 38
// with products of other accumulators in between: measured), so the lower half of a block is stored
// inside the next block, two products late.
#pragma once

#include "kernels/sizes.h"
#include "kernels/x86/amx_codes.h"
#include "kernels/x86/amx_epilogue.h"
#include "kernels/x86/amx_memory.h"
#include "kernels/x86/amx_step.h"
#include "kernels/x86/assembly.h"

namespace fastmnist {
namespace {

constexpr std::int64_t kTilesOfSums = 4;

template <Output O>
class Blocks {
 public:
  explicit Blocks(const TileArgs& args)
      : args_(args),
        working_(args),
        epilogue_(args),
        steps_(args.w.padded_inputs / kTileInputs),
        prefetch_(args, steps_ * divide_up(args.rows, kBlockRows) *
                            divide_up(args.w.outputs, kBlockOutputs)) {}

  void run() {
    if (args_.rows <= kBlockRows ||
        weight_bytes(args_.w.padded_inputs, args_.w.outputs) <= kNearWeights)
      rows_first();
    else
      panels_first();
    hand_over();
    epilogue_.finish();
  }

 private:
  // All panels over 32 rows, then over the next: the rows stay near, the weights stream by. Rows
  // that cross cache lines cost little here (0.9 µs where aligned ones take 0.8; 1.5 otherwise).
  void rows_first() {
    for (std::int64_t m = 0; m < args_.rows; m += kBlockRows)
      for (std::int64_t first = 0; first < args_.w.outputs; first += kBlockOutputs)
        block<Streamed::kWeights>(m, first);
  }

  // Two panels over all rows, then the next two: weights are read from far away only once.
  void panels_first() {
    for (std::int64_t first = 0; first < args_.w.outputs; first += kBlockOutputs)
      for (std::int64_t m = 0; m < args_.rows; m += kBlockRows) block<Streamed::kRows>(m, first);
  }

  template <Streamed S>
  void block(std::int64_t m, std::int64_t first) {
    const Weights& w = args_.w;
    const std::int64_t rows = args_.rows - m < kBlockRows ? args_.rows - m : kBlockRows;
    if (codes_at_ != m) {
      codes_[0] = codes_of(args_, m, working_.copies);
      if (rows > kTileRows)
        codes_[1] = codes_of(args_, m + kTileRows, working_.copies + copy_bytes(w.padded_inputs));
      codes_at_ = m;
    }
    const bool two_panels = w.outputs - first > kPanelOutputs;
    const std::byte* weights = w.dense.panels + first / kPanelOutputs * w.dense.stride;
    if (rows > kTileRows)
      two_panels ? multiply<2, 2, S>(weights) : multiply<2, 1, S>(weights);
    else
      two_panels ? multiply<1, 2, S>(weights) : multiply<1, 1, S>(weights);
    last_ = {m, rows, first};
    turn_ ^= 1;
  }

  using Epilogue = BlockEpilogue<O, kBlockRows, 2>;
  struct Place {
    std::int64_t row, rows, first;
  };

  std::int32_t* sums(int turn, int half, int panel) const {
    return working_.sums[turn] + panel * Epilogue::kSumsOfPanel + half * kTileRows * kPanelOutputs;
  }

  // What is left of the block before: its lower half is stored, its epilogue may begin.
  void hand_over() {
    tile_store<2>(sums(turn_ ^ 1, 1, 0), 64);
    tile_store<3>(sums(turn_ ^ 1, 1, 1), 64);
    epilogue_.start(working_.sums[turn_ ^ 1], last_.row, last_.rows, last_.first);
  }

  // The codes that streamed by may have pushed the sums out of the first-level cache, and tile
  // stores would wait for their lines one by one.
  void expect_sums(std::int64_t tile) const {
    const std::int32_t* line = working_.sums[turn_] + tile * kTileRows * kPanelOutputs;
    for (std::int64_t i = 0; i < kTileRows; ++i) prefetch_for_writing(line + i * kPanelOutputs);
  }

  template <int HALVES, int PANELS, Streamed S, bool FIRST>
  FASTMNIST_INLINE void step(const std::uint8_t* x0, std::int64_t stride0, const std::uint8_t* x1,
                             std::int64_t stride1, const std::byte* w) {
    using Step = Step32x2<HALVES, PANELS, S>;
    if constexpr (FIRST) tile_zero<0>();
    if constexpr (FIRST) tile_zero<1>();
    Step::upper_half(x0, stride0, w, args_.w.dense.stride);
    if constexpr (FIRST) {
      if (last_.rows != 0) hand_over();
      tile_zero<2>();
      tile_zero<3>();
    }
    Step::lower_half(x1, stride1);
    prefetch_.step();
  }

  template <int HALVES, int PANELS, Streamed S>
  void multiply(const std::byte* w) {
    const Codes c0 = codes_[0];
    const Codes c1 = codes_[1];
    const std::uint8_t* x0 = c0.body;
    const std::uint8_t* x1 = c1.body;
    const std::int64_t quanta = steps_ > 1 ? divide_up(Epilogue::kSteps, steps_ - 1) : 0;
    if (steps_ == 1) {
      step<HALVES, PANELS, S, true>(c0.tail, c0.tail_stride, c1.tail, c1.tail_stride, w);
    } else {
      step<HALVES, PANELS, S, true>(x0, c0.body_stride, x1, c1.body_stride, w);
      for (std::int64_t s = 1; s < steps_; ++s) {
        for (std::int64_t i = 0; i < quanta; ++i) epilogue_.step();
        if (s + kTilesOfSums >= steps_) expect_sums(steps_ - 1 - s);
        x0 += c0.step;
        x1 += c1.step;
        w += kTileBytes;
        if (s + 1 < steps_)
          step<HALVES, PANELS, S, false>(x0, c0.body_stride, x1, c1.body_stride, w);
        else
          step<HALVES, PANELS, S, false>(c0.tail, c0.tail_stride, c1.tail, c1.tail_stride, w);
      }
    }
    epilogue_.finish();
    tile_store<0>(sums(turn_, 0, 0), 64);
    if constexpr (PANELS == 2) tile_store<1>(sums(turn_, 0, 1), 64);
  }

  const TileArgs& args_;
  Working working_;
  Epilogue epilogue_;
  std::int64_t steps_;
  Prefetch prefetch_;
  Codes codes_[2] = {};
  std::int64_t codes_at_ = -1;  // the rows that codes_, and the copies it points to, belong to
  Place last_{};                // whose lower half is still in tmm2 and tmm3; no rows: none
  int turn_ = 0;
};

}  // namespace
}  // namespace fastmnist
