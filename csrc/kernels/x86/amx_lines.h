// Blocks of 32 rows, taken so that the rows of one all begin at the same place of a cache line.
//
// A tile whose rows cross cache lines takes 10 ns to load instead of 3, and products wait for it.
// Rows of 784 codes begin at four different places of a line; every fourth row at the same. So a
// block takes every fourth row, reads from the beginning of the line where they begin, and moves
// the weights by as much: what lies before the row meets zeros (kernels/dense_lead.h).
//
//     lines    |        |        |        |        |        |        |
//     row 0    [0: 784 codes ... ...  ][1: ...           ][2: ...            block 0: 0, 4, 8, ...
//     row 1                      :[1: 784 codes           block 1: 1, 5, ... with 16 zeros before
#pragma once

#include "core/types.h"
#include "kernels/dense_lead.h"
#include "kernels/x86/amx_codes.h"
#include "kernels/x86/amx_memory.h"

namespace fastmnist {
namespace {

struct RowBlock {
  Codes codes[2];
  std::int64_t rows;
  std::int64_t lead;  // bytes by which the weights are moved
  std::uint8_t* out;  // first output of the first row
  std::int64_t out_stride;
};

// All rows of a layer that gives codes.
class RowBlocks {
 public:
  RowBlocks(const TileArgs& args, std::uint8_t* copies) : args_(args), copies_(copies) {}

  template <typename Body>
  void each(const Body& body) const {
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

 private:
  RowBlock rows_from(std::int64_t m) const {
    const std::int64_t left = args_.rows - m;
    RowBlock block{};
    block.codes[0] = codes_of(args_, m, copies_);
    if (left > kTileRows)
      block.codes[1] = codes_of(args_, m + kTileRows, copies_ + copy_bytes(args_.w.padded_inputs));
    block.rows = left < kBlockRows ? left : kBlockRows;
    block.out = static_cast<std::uint8_t*>(args_.y) + m * args_.y_stride;
    block.out_stride = args_.y_stride;
    return block;
  }

  // After how many rows the place in a line comes again; 1: always the same, or it does not pay.
  std::int64_t turns_of_lines() const {
    if (args_.x_tiled || lead_of(args_.w.inputs) == 0) return 1;
    const std::int64_t turns = args_.x_stride % 64 == 32 ? 2 : args_.x_stride % 32 == 16 ? 4 : 1;
    // Moved by up to that much, the rows' last codes must still be within the steps.
    const std::int64_t apart = 64 / turns;
    const std::int64_t most = 64 - apart;
    const bool enough = args_.w.padded_inputs - args_.w.inputs >= most &&
                        lead_of(args_.w.inputs) >= most * kPanelOutputs;
    return enough && place_in_line(args_.x) % apart == 0 ? turns : 1;
  }

  static std::int64_t place_in_line(const std::uint8_t* row) {
    return static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(row) % 64);
  }

  // Whether blocks by lines of the `turns` x 32 rows from m on stay within x.
  bool lines_are_readable(std::int64_t m, std::int64_t turns) const {
    if (m + turns * kBlockRows > args_.rows) return false;
    if (m == 0 && place_in_line(args_.x) > args_.x - args_.x_begin) return false;
    for (std::int64_t t = 0; t < turns; ++t) {
      const std::int64_t last = m + (kBlockRows - 1) * turns + t;
      const std::uint8_t* row = args_.x + last * args_.x_stride;
      if (row - place_in_line(row) + args_.w.padded_inputs > args_.x_end) return false;
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

  const TileArgs& args_;
  std::uint8_t* copies_;
};

}  // namespace
}  // namespace fastmnist
