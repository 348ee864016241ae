// AMX linear kernel for at most 128 inputs: strips of 16 rows x 2 panels, the weights stay.
//
//              panel p     panel p+1
//     rows     +---------+---------+       tmm2, tmm3: codes of the rows, inputs 0-63 and 64-127
//     0..15    | tmm0    | tmm1    |       tmm4, tmm5: weights of panel p
//     16..31   |         |         |       tmm6, tmm7: weights of panel p+1
//     ...      +---------+---------+
//
// Two panels' weights are loaded once for all rows, so four products cost two loads. With so few
// products per sum everything else counts: a sum is stored when the next strip needs its
// accumulator, behind products of others (a store right behind its last product stops the unit),
// and its epilogue runs in the strip after that.
//
//     strip  i-1        i              i+1
//            products   sums stored    epilogue
#pragma once

#include "kernels/sizes.h"
#include "kernels/x86/amx_codes.h"
#include "kernels/x86/amx_memory.h"
#include "kernels/x86/amx_packing.h"

namespace fastmnist {
namespace {

template <Output O>
class Narrow {
 public:
  // Whole pairs of panels, one quantizer for all rows: hidden layers have that.
  static bool can(const LinearShape& shape) {
    return shape.codes_out && !shape.per_row && shape.inputs <= 2 * kTileInputs &&
           shape.outputs % kBlockOutputs == 0;
  }

  explicit Narrow(const TileArgs& args)
      : args_(args),
        working_(args),
        prefetch_(args, divide_up(args.rows, kTileRows) * (args.w.outputs / kBlockOutputs)),
        centered_(args.x_quantizer.zero_point == 0) {}

  void run() {
    const bool two_steps = args_.w.padded_inputs > kTileInputs;
    for (std::int64_t first = 0; first < args_.w.outputs; first += kBlockOutputs) {
      PanelConstants* const c = constants_[turn_of_constants_];
      turn_of_constants_ = (turn_of_constants_ + 1) % kConstants;
      for (int p = 0; p < 2; ++p)
        c[p] = constants_of(args_.w, first / kPanelOutputs + p, args_.x_quantizer);
      if (two_steps)
        centered_ ? all_rows<2, true>(first, c) : all_rows<2, false>(first, c);
      else
        centered_ ? all_rows<1, true>(first, c) : all_rows<1, false>(first, c);
    }
    multiplied_.sums = working_.sums[turn_];
    tile_store<0>(working_.sums[turn_], 64);
    tile_store<1>(working_.sums[turn_] + kSumsOfPanel, 64);
    finish(stored_);
    finish(multiplied_);
  }

 private:
  static constexpr std::int64_t kSumsOfPanel = kTileRows * kPanelOutputs;
  // A strip still without epilogue: where its sums are (if stored yet) and its outputs go.
  struct Strip {
    const std::int32_t* sums;
    std::uint8_t* out;
    const PanelConstants* constants;
    std::int64_t rows;
  };

  template <int STEPS, bool CENTERED>
  void all_rows(std::int64_t first, const PanelConstants* constants) {
    const std::int64_t stride = args_.w.dense.stride;
    const std::byte* w = args_.w.dense.panels + first / kPanelOutputs * stride;
    tile_load<4>(w, 64);
    if constexpr (STEPS == 2) tile_load<5>(w + kTileBytes, 64);
    tile_load<6>(w + stride, 64);
    if constexpr (STEPS == 2) tile_load<7>(w + stride + kTileBytes, 64);
    // Copies that live in registers: to the compiler, a tile instruction may change all memory.
    Strip stored = stored_;
    Strip multiplied = multiplied_;
    int turn = turn_;
    const std::int64_t rows = args_.rows;
    const std::int64_t y_stride = args_.y_stride;
    std::uint8_t* out = static_cast<std::uint8_t*>(args_.y) + first;
    const Packing<O> packing(args_);
    for (std::int64_t m = 0; m < rows; m += kTileRows, out += kTileRows * y_stride) {
      const Codes codes = codes_of(args_, m, working_.copies);
      std::int32_t* const sums = working_.sums[turn];
      tile_load<2>(STEPS == 2 ? codes.body : codes.tail,
                   STEPS == 2 ? codes.body_stride : codes.tail_stride);
      tile_store<0>(sums, 64);
      tile_zero<0>();
      tile_multiply<0, 2, 4>();
      const bool whole = stored.rows == kTileRows;
      if (whole) half<CENTERED>(packing, stored, 0, y_stride);
      tile_store<1>(sums + kSumsOfPanel, 64);
      tile_zero<1>();
      tile_multiply<1, 2, 6>();
      if constexpr (STEPS == 2) {
        tile_load<3>(codes.tail, codes.tail_stride);
        tile_multiply<0, 3, 5>();
      }
      if (whole)
        half<CENTERED>(packing, stored, kTileRows / 2, y_stride);
      else
        some_rows(stored);
      if constexpr (STEPS == 2) tile_multiply<1, 3, 7>();
      prefetch_.step();
      stored = multiplied;
      stored.sums = sums;
      multiplied = {nullptr, out, constants, rows - m < kTileRows ? rows - m : kTileRows};
      turn ^= 1;
    }
    stored_ = stored;
    multiplied_ = multiplied;
    turn_ = turn;
  }

  // Eight rows' outputs from row r of the strip on.
  template <bool CENTERED>
  static FASTMNIST_INLINE void half(const Packing<O>& packing, const Strip& strip, std::int64_t r,
                                    std::int64_t y_stride) {
    const PanelConstants c0 = strip.constants[0];
    const PanelConstants c1 = strip.constants[1];
    const std::int32_t* sums = strip.sums + r * kPanelOutputs;
    std::uint8_t* out = strip.out + r * y_stride;
    packing.template two_rows<CENTERED, kSumsOfPanel>(sums, c0, c1, out, y_stride);
    packing.template two_rows<CENTERED, kSumsOfPanel>(sums + 2 * kPanelOutputs, c0, c1,
                                                      out + 2 * y_stride, y_stride);
    packing.template two_rows<CENTERED, kSumsOfPanel>(sums + 4 * kPanelOutputs, c0, c1,
                                                      out + 4 * y_stride, y_stride);
    packing.template two_rows<CENTERED, kSumsOfPanel>(sums + 6 * kPanelOutputs, c0, c1,
                                                      out + 6 * y_stride, y_stride);
  }

  void finish(const Strip& strip) const {
    if (strip.rows < kTileRows) return some_rows(strip);
    const Packing<O> packing(args_);
    for (std::int64_t r = 0; r < kTileRows; r += kTileRows / 2)
      centered_ ? half<true>(packing, strip, r, args_.y_stride)
                : half<false>(packing, strip, r, args_.y_stride);
  }

  // The last rows of the batch, and the first calls, when there is no strip yet (of 0 rows).
  [[gnu::noinline]] void some_rows(const Strip& strip) const {
    const Packing<O> packing(args_);
    for (std::int64_t r = 0; r < strip.rows; ++r)
      packing.template one_row<kSumsOfPanel>(strip.sums + r * kPanelOutputs, strip.constants, 2,
                                             strip.out + r * args_.y_stride, args_);
  }

  static constexpr int kConstants = 3;  // strips of three pairs of panels may be on their way

  const TileArgs& args_;
  Working working_;
  Prefetch prefetch_;
  bool centered_;
  PanelConstants constants_[kConstants][2];
  int turn_of_constants_ = 0;
  Strip stored_{};      // sums stored
  Strip multiplied_{};  // sums still in tmm0 and tmm1
  int turn_ = 0;
};

}  // namespace
}  // namespace fastmnist
