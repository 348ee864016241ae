// AMX linear kernel for hidden layers, codes to codes, of many rows and more than 128 inputs:
// blocks of 32 rows x 2 panels (amx_step.h), rows by cache lines (amx_lines.h).
//
// A tile store right behind its last product stops the unit, so a block's sums are stored between
// the first products of the block that follows; its epilogue runs between the other products.
#pragma once

#include "kernels/sizes.h"
#include "kernels/x86/amx_codes.h"
#include "kernels/x86/amx_lines.h"
#include "kernels/x86/amx_memory.h"
#include "kernels/x86/amx_packing.h"
#include "kernels/x86/amx_step.h"

namespace fastmnist {
namespace {

template <Output O>
class Wide {
 public:
  // Whole panels (the last may be alone), one quantizer for all rows: hidden layers have that.
  static bool can(const LinearShape& shape) {
    return shape.codes_out && !shape.per_row && shape.rows > kTileRows &&
           shape.inputs > 2 * kTileInputs && shape.outputs % kPanelOutputs == 0;
  }

  explicit Wide(const TileArgs& args)
      : args_(args),
        working_(args),
        packing_(args),
        blocks_(args, working_.copies),
        steps_(args.w.padded_inputs / kTileInputs),
        quanta_(divide_up(kBlockRows / kQuantumRows, steps_ - 1)),
        prefetch_(args, steps_ * divide_up(args.rows, kBlockRows) *
                            divide_up(args.w.outputs, kBlockOutputs)) {}

  void run() { args_.x_quantizer.zero_point == 0 ? all_blocks<true>() : all_blocks<false>(); }

 private:
  static constexpr std::int64_t kHalf = kTileRows * kPanelOutputs;
  static constexpr std::int64_t kSumsOfPanel = 2 * kHalf;
  static constexpr std::int64_t kQuantumRows = 4;  // of an epilogue, between two steps of products

  // A block whose products are done: where its outputs go.
  struct Done {
    const PanelConstants* constants;
    std::uint8_t* out;
    std::int64_t out_stride;
    std::int64_t rows;
    int panels;
  };

  template <bool CENTERED>
  void all_blocks() {
    const std::int64_t outputs = args_.w.outputs;
    if (args_.rows <= kBlockRows ||
        weight_bytes(args_.w.padded_inputs, args_.w.outputs) <= kNearWeights) {
      // All panels over 32 rows, then over the next: the rows stay near, the weights stream by.
      blocks_.each([&](const RowBlock& rows) {
        for (std::int64_t first = 0; first < outputs; first += kBlockOutputs)
          block<Streamed::kWeights, CENTERED>(rows, first);
      });
    } else {
      // Two panels over all rows, then the next two: weights are read from far away only once.
      for (std::int64_t first = 0; first < outputs; first += kBlockOutputs)
        blocks_.each([&](const RowBlock& rows) { block<Streamed::kRows, CENTERED>(rows, first); });
    }
    store_sums();
    epilogue<CENTERED>(done_, 0);
  }

  template <Streamed S, bool CENTERED>
  void block(const RowBlock& rows, std::int64_t first) {
    const std::byte* w =
        args_.w.dense.panels + first / kPanelOutputs * args_.w.dense.stride - rows.lead;
    const int panels = args_.w.outputs - first > kPanelOutputs ? 2 : 1;
    PanelConstants* const constants = constants_[turn_];
    for (int p = 0; p < panels; ++p)
      constants[p] = constants_of(args_.w, first / kPanelOutputs + p, args_.x_quantizer);
    if (rows.rows > kTileRows)
      panels == 2 ? multiply<2, 2, S, CENTERED>(rows, w) : multiply<2, 1, S, CENTERED>(rows, w);
    else
      panels == 2 ? multiply<1, 2, S, CENTERED>(rows, w) : multiply<1, 1, S, CENTERED>(rows, w);
    done_ = {constants, rows.out + first, rows.out_stride, rows.rows, panels};
    turn_ ^= 1;
  }

  template <int HALVES, int PANELS, Streamed S, bool CENTERED>
  void multiply(const RowBlock& rows, const std::byte* w) {
    using Step = Step32x2<HALVES, PANELS, S>;
    const std::uint8_t* x0 = rows.codes[0].body;
    const std::uint8_t* x1 = rows.codes[1].body;
    const std::int64_t stride0 = rows.codes[0].body_stride;
    const std::int64_t stride1 = rows.codes[1].body_stride;
    const std::int64_t step0 = rows.codes[0].step;
    const std::int64_t step1 = rows.codes[1].step;
    const std::int64_t panel = args_.w.dense.stride;
    std::int32_t* const sums = working_.sums[0];
    // The first step, and the sums of the block before.
    Step::template load_weights<6>(w);
    Step::template load_codes<4>(x0, stride0);
    tile_store<0>(sums, 64);
    tile_zero<0>();
    tile_multiply<0, 4, 6>();
    tile_store<1>(sums + kSumsOfPanel, 64);
    if constexpr (PANELS == 2) {
      Step::template load_weights<7>(w + panel);
      tile_zero<1>();
      tile_multiply<1, 4, 7>();
    }
    tile_store<2>(sums + kHalf, 64);
    tile_store<3>(sums + kHalf + kSumsOfPanel, 64);
    if constexpr (HALVES == 2) {
      Step::template load_codes<5>(x1, stride1);
      tile_zero<2>();
      tile_multiply<2, 5, 6>();
      if constexpr (PANELS == 2) {
        tile_zero<3>();
        tile_multiply<3, 5, 7>();
      }
    }
    const Done done = done_;
    Prefetch prefetch = prefetch_;
    const Packing<O> packing = packing_;
    prefetch.step();
    std::int64_t r = 0;
    for (std::int64_t s = 1; s < steps_; ++s) {
      x0 += step0;
      x1 += step1;
      w += kTileBytes;
      const bool tail = s + 1 == steps_;
      Step::upper_half(tail ? rows.codes[0].tail : x0, tail ? rows.codes[0].tail_stride : stride0,
                       w, panel);
      Step::lower_half(tail ? rows.codes[1].tail : x1, tail ? rows.codes[1].tail_stride : stride1);
      prefetch.step();
      for (std::int64_t i = 0; i < quanta_; ++i, r += kQuantumRows)
        if (r + kQuantumRows <= done.rows) quantum<CENTERED>(packing, done, sums, r);
    }
    prefetch_ = prefetch;
    if (r < done.rows || done.rows % kQuantumRows != 0) epilogue<CENTERED>(done, r);
  }

  template <bool CENTERED>
  static FASTMNIST_INLINE void quantum(const Packing<O>& packing, const Done& done,
                                       const std::int32_t* sums, std::int64_t r) {
    const PanelConstants c0 = done.constants[0];
    const std::int32_t* at = sums + r * kPanelOutputs;
    std::uint8_t* out = done.out + r * done.out_stride;
    if (done.panels == 1) return packing.template four_rows<CENTERED>(at, c0, out, done.out_stride);
    const PanelConstants c1 = done.constants[1];
    packing.template two_rows<CENTERED, kSumsOfPanel>(at, c0, c1, out, done.out_stride);
    packing.template two_rows<CENTERED, kSumsOfPanel>(at + 2 * kPanelOutputs, c0, c1,
                                                      out + 2 * done.out_stride, done.out_stride);
  }

  // What is left of it from row r on (rounded down to where quanta end).
  template <bool CENTERED>
  [[gnu::noinline]] void epilogue(const Done& done, std::int64_t r) const {
    const std::int32_t* sums = working_.sums[0];
    if (r > done.rows) r = done.rows / kQuantumRows * kQuantumRows;
    for (; r + kQuantumRows <= done.rows; r += kQuantumRows)
      quantum<CENTERED>(packing_, done, sums, r);
    for (; r < done.rows; ++r)
      packing_.template one_row<kSumsOfPanel>(sums + r * kPanelOutputs, done.constants, done.panels,
                                              done.out + r * done.out_stride, args_);
  }

  void store_sums() const {
    std::int32_t* const sums = working_.sums[0];
    tile_store<0>(sums, 64);
    tile_store<1>(sums + kSumsOfPanel, 64);
    tile_store<2>(sums + kHalf, 64);
    tile_store<3>(sums + kHalf + kSumsOfPanel, 64);
  }

  const TileArgs& args_;
  Working working_;
  Packing<O> packing_;
  RowBlocks blocks_;
  std::int64_t steps_;
  std::int64_t quanta_;
  Prefetch prefetch_;
  PanelConstants constants_[2][2];
  Done done_{};  // whose sums are still in the tiles; no rows: none
  int turn_ = 0;
};

}  // namespace
}  // namespace fastmnist
