// AMX linear kernel for hidden layers, codes to codes, of many rows and more than 128 inputs:
// blocks of 32 rows x 2 panels.
//
//              panel p     panel p+1
//     rows     +---------+---------+       tmm4, tmm5: codes of rows 0-15, 16-31
//     0..15    | tmm0    | tmm1    |       tmm6, tmm7: weights of panels p, p+1
//     16..31   | tmm2    | tmm3    |
//              +---------+---------+       each loaded tile is used twice
//
// A tile store right behind its last product stops the unit, so a block's sums are stored between
// the first products of the block that follows; its epilogue runs between the other products.
//
// The second-level cache alone is too slow for both operands (7.1 ns a product instead of 5.5). One
// of them stays in the first level: the rows where the weights come from near, else the weights;
// the other is loaded past it.
//
// A tile whose rows cross cache lines takes 10 ns to load instead of 3, and products wait for it.
// Rows of 784 codes begin at four different places of a line; every fourth row at the same. So a
// block takes every fourth row, reads from the beginning of the line where they begin, and moves
// the weights by as much: what lies before the row meets zeros (PackedDense::lead).
//
//     lines    |        |        |        |        |        |        |
//     row 0    [0: 784 codes ... ...  ][1: ...           ][2: ...            block 0: 0, 4, 8, ...
//     row 1                      :[1: 784 codes           block 1: 1, 5, ... with 16 zeros before
#pragma once

#include "kernels/amx_codes.h"
#include "kernels/amx_memory.h"
#include "kernels/amx_packing.h"

namespace fastmnist {
namespace {

template <Output O>
class Wide {
 public:
  // Whole panels (the last may be alone), one quantizer for all rows: hidden layers have that.
  static bool suits(const LinearArgs& args) {
    return args.rows > kTileRows && args.w.padded_inputs > 2 * kTileInputs &&
           args.w.outputs % kPanelOutputs == 0 && args.row_quantizers == nullptr;
  }

  explicit Wide(const LinearArgs& args)
      : args_(args),
        working_(args),
        packing_(args),
        steps_(args.w.padded_inputs / kTileInputs),
        quanta_((kBlockRows / kQuantumRows + steps_ - 2) / (steps_ - 1)),
        prefetch_(args, steps_ * ((args.rows + kBlockRows - 1) / kBlockRows) *
                            ((args.w.outputs + kBlockOutputs - 1) / kBlockOutputs)) {}

  void run() { args_.x_quantizer.zero_point == 0 ? all_blocks<true>() : all_blocks<false>(); }

 private:
  // Which operand is loaded past the first-level cache.
  enum Streamed { kWeights, kRows };

  static constexpr std::int64_t kHalf = kTileRows * kPanelOutputs;
  static constexpr std::int64_t kSumsOfPanel = 2 * kHalf;
  static constexpr std::int64_t kQuantumRows = 4;  // of an epilogue, between two steps of products

  struct RowBlock {
    Codes codes[2];
    std::int64_t rows;
    std::int64_t lead;  // bytes by which the weights are moved
    std::uint8_t* out;  // first output of the first row
    std::int64_t out_stride;
  };

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
    if (args_.rows <= kBlockRows || weight_bytes(args_.w) <= kNearWeights) {
      // All panels over 32 rows, then over the next: the rows stay near, the weights stream by.
      each_row_block([&](const RowBlock& rows) {
        for (std::int64_t first = 0; first < outputs; first += kBlockOutputs)
          block<kWeights, CENTERED>(rows, first);
      });
    } else {
      // Two panels over all rows, then the next two: weights are read from far away only once.
      for (std::int64_t first = 0; first < outputs; first += kBlockOutputs)
        each_row_block([&](const RowBlock& rows) { block<kRows, CENTERED>(rows, first); });
    }
    store_sums();
    epilogue<CENTERED>(done_, 0);
  }

  template <typename Body>
  void each_row_block(const Body& body) {
    const std::int64_t turns = turns_of_lines();
    for (std::int64_t m = 0; m < args_.rows;) {
      if (turns > 1 && lines_are_readable(m, turns)) {
        for (std::int64_t t = 0; t < turns; ++t) body(rows_by_lines(m + t, turns));
        m += turns * kBlockRows;
      } else {
        body(rows_from(m));
        m += kBlockRows;
      }
    }
  }

  RowBlock rows_from(std::int64_t m) {
    const std::int64_t left = args_.rows - m;
    RowBlock block{};
    block.codes[0] = codes_of(args_, m, working_.copies);
    if (left > kTileRows)
      block.codes[1] =
          codes_of(args_, m + kTileRows, working_.copies + copy_bytes(args_.w.padded_inputs));
    block.rows = left < kBlockRows ? left : kBlockRows;
    block.out = static_cast<std::uint8_t*>(args_.y) + m * args_.y_stride;
    block.out_stride = args_.y_stride;
    return block;
  }

  // After how many rows the place in a line comes again; 1: always the same, or it does not pay.
  std::int64_t turns_of_lines() const {
    if (args_.x_tiled || args_.w.lead == 0) return 1;
    const std::int64_t turns = args_.x_stride % 64 == 32 ? 2 : args_.x_stride % 32 == 16 ? 4 : 1;
    // Moved by up to that much, the rows' last codes must still be within the steps.
    const std::int64_t apart = 64 / turns;
    const std::int64_t most = 64 - apart;
    const bool enough =
        args_.w.padded_inputs - args_.w.inputs >= most && args_.w.lead >= most * kPanelOutputs;
    return enough && place_in_line(args_.x) % apart == 0 ? turns : 1;
  }

  static std::int64_t place_in_line(const std::uint8_t* row) {
    return static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(row) % 64);
  }

  // Whether blocks by lines of the `turns` x 32 rows from m on stay within x.
  bool lines_are_readable(std::int64_t m, std::int64_t turns) const {
    if (m + turns * kBlockRows > args_.rows) return false;
    if (m == 0 && place_in_line(args_.x) > args_.x_before) return false;
    for (std::int64_t t = 0; t < turns; ++t) {
      const std::int64_t last = m + (kBlockRows - 1) * turns + t;
      const std::uint8_t* row = args_.x + last * args_.x_stride;
      if (row - place_in_line(row) + args_.w.padded_inputs > args_.x + args_.x_readable)
        return false;
    }
    return true;
  }

  // Rows m, m + turns, ...: 32 that begin at the same place of a line.
  RowBlock rows_by_lines(std::int64_t m, std::int64_t turns) const {
    const std::uint8_t* row = args_.x + m * args_.x_stride;
    const std::int64_t before = place_in_line(row);
    const std::int64_t stride = turns * args_.x_stride;
    const std::int64_t last = args_.w.padded_inputs - kTileInputs;
    const std::uint8_t* x0 = row - before;
    const std::uint8_t* x1 = x0 + kTileRows * stride;
    return {{{x0, stride, kTileInputs, x0 + last, stride},
             {x1, stride, kTileInputs, x1 + last, stride}},
            kBlockRows,
            before * kPanelOutputs,
            static_cast<std::uint8_t*>(args_.y) + m * args_.y_stride,
            turns * args_.y_stride};
  }

  template <Streamed S, bool CENTERED>
  void block(const RowBlock& rows, std::int64_t first) {
    const std::byte* w = args_.w.panels + first / kPanelOutputs * args_.w.panel_stride - rows.lead;
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

  template <int T, Streamed S>
  static FASTMNIST_INLINE void load_codes(const void* base, std::int64_t stride) {
    if constexpr (S == kWeights)
      tile_load<T>(base, stride);
    else
      tile_stream<T>(base, stride);
  }

  template <int T, Streamed S>
  static FASTMNIST_INLINE void load_weights(const void* base) {
    if constexpr (S == kRows)
      tile_load<T>(base, 64);
    else
      tile_stream<T>(base, 64);
  }

  template <int HALVES, int PANELS, Streamed S, bool CENTERED>
  void multiply(const RowBlock& rows, const std::byte* w) {
    const std::uint8_t* x0 = rows.codes[0].body;
    const std::uint8_t* x1 = rows.codes[1].body;
    const std::int64_t stride0 = rows.codes[0].body_stride;
    const std::int64_t stride1 = rows.codes[1].body_stride;
    const std::int64_t step0 = rows.codes[0].step;
    const std::int64_t step1 = rows.codes[1].step;
    const std::int64_t panel = args_.w.panel_stride;
    std::int32_t* const sums = working_.sums[0];
    // The first step, and the sums of the block before.
    load_weights<6, S>(w);
    load_codes<4, S>(x0, stride0);
    tile_store<0>(sums, 64);
    tile_zero<0>();
    tile_multiply<0, 4, 6>();
    tile_store<1>(sums + kSumsOfPanel, 64);
    if constexpr (PANELS == 2) {
      load_weights<7, S>(w + panel);
      tile_zero<1>();
      tile_multiply<1, 4, 7>();
    }
    tile_store<2>(sums + kHalf, 64);
    tile_store<3>(sums + kHalf + kSumsOfPanel, 64);
    if constexpr (HALVES == 2) {
      load_codes<5, S>(x1, stride1);
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
      load_weights<6, S>(w);
      load_codes<4, S>(tail ? rows.codes[0].tail : x0, tail ? rows.codes[0].tail_stride : stride0);
      tile_multiply<0, 4, 6>();
      if constexpr (PANELS == 2) {
        load_weights<7, S>(w + panel);
        tile_multiply<1, 4, 7>();
      }
      if constexpr (HALVES == 2) {
        load_codes<5, S>(tail ? rows.codes[1].tail : x1,
                         tail ? rows.codes[1].tail_stride : stride1);
        tile_multiply<2, 5, 6>();
        if constexpr (PANELS == 2) tile_multiply<3, 5, 7>();
      }
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

  const LinearArgs& args_;
  Working working_;
  Packing<O> packing_;
  std::int64_t steps_;
  std::int64_t quanta_;
  Prefetch prefetch_;
  PanelConstants constants_[2][2];
  Done done_{};  // whose sums are still in the tiles; no rows: none
  int turn_ = 0;
};

}  // namespace
}  // namespace fastmnist
