// AMX linear kernel for many rows and weights that come from far away: blocks of 32 rows x 2
// panels (amx_step.h), in slices of 1,024 inputs.
//
//                    1,024 inputs  1,024 inputs  ...
//     rows   0..31   [ 1          ][ 10         ]
//     rows  32..63   [ 2          ][ 11         ]
//     ...              ...           ...
//     rows 256..287  [ 9          ][ 18         ]
//
// Two panels' weights of a slice (32 KB) stay in the first-level cache while up to 288 rows pass
// over them; the sums wait in memory meanwhile (4 KB per block, second level). The next slice's
// weights are asked for.
#pragma once

#include "kernels/sizes.h"
#include "kernels/x86/amx_codes.h"
#include "kernels/x86/amx_epilogue.h"
#include "kernels/x86/amx_memory.h"
#include "kernels/x86/amx_step.h"

namespace fastmnist {
namespace {

template <Output O>
class Slices {
 public:
  static bool can(const LinearShape& shape) {
    return shape.rows > kBlockRows && shape.inputs > kSliceInputs &&
           weight_bytes(shape.inputs, shape.outputs) > kNearWeights;
  }

  explicit Slices(const TileArgs& args) : args_(args), working_(args), epilogue_(args) {}

  void run() {
    for (std::int64_t m = 0; m < args_.rows; m += kGroupRows) {
      const std::int64_t left = args_.rows - m;
      group(m, left < kGroupRows ? left : kGroupRows);
    }
    epilogue_.finish();
  }

 private:
  using Epilogue = BlockEpilogue<O, kBlockRows, 2>;

  // What one block needs to know.
  struct Place {
    std::int64_t row, rows, first;  // rows, and the first of the outputs
    std::int64_t k;                 // the first of the slice's inputs
    std::int64_t steps;
    bool last;  // slice
    std::int32_t* sums;
  };

  void group(std::int64_t m0, std::int64_t rows) {
    const Weights& w = args_.w;
    for (std::int64_t first = 0; first < w.outputs; first += kBlockOutputs)
      for (std::int64_t k = 0; k < w.padded_inputs; k += kSliceInputs) {
        const std::int64_t left = w.padded_inputs - k;
        const std::int64_t inputs = left < kSliceInputs ? left : kSliceInputs;
        expect(first, k, inputs, rows);
        for (std::int64_t m = 0; m < rows; m += kBlockRows) {
          const std::int64_t own = rows - m < kBlockRows ? rows - m : kBlockRows;
          Place place{m0 + m,
                      own,
                      first,
                      k,
                      inputs / kTileInputs,
                      left <= kSliceInputs,
                      working_.sums[0] + m * kBlockOutputs};
          block(place);
        }
      }
  }

  // The slice behind this one, to be asked for a few lines with each step.
  void expect(std::int64_t first, std::int64_t k, std::int64_t inputs, std::int64_t rows) {
    const Weights& w = args_.w;
    if (k + inputs >= w.padded_inputs) {
      first += kBlockOutputs;
      k = -inputs;
    }
    next_ = w.dense.panels + first / kPanelOutputs * w.dense.stride + (k + inputs) * kPanelOutputs;
    const std::int64_t bytes = first < w.outputs ? inputs * kPanelOutputs : 0;
    next_end_ = next_ + bytes;
    const std::int64_t steps = inputs / kTileInputs * divide_up(rows, kBlockRows);
    next_per_step_ = divide_up(bytes / 64, steps) * 64;
    next_panels_ = w.outputs - first > kPanelOutputs ? 2 : 1;
  }

  void ask_for_next() {
    for (std::int64_t i = 0; i < next_per_step_ && next_ < next_end_; i += 64, next_ += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(next_), _MM_HINT_T1);
      if (next_panels_ == 2)
        _mm_prefetch(reinterpret_cast<const char*>(next_ + args_.w.dense.stride), _MM_HINT_T1);
    }
  }

  void block(const Place& place) {
    const bool two_panels = args_.w.outputs - place.first > kPanelOutputs;
    if (place.rows > kTileRows)
      two_panels ? multiply<2, 2>(place) : multiply<2, 1>(place);
    else
      two_panels ? multiply<1, 2>(place) : multiply<1, 1>(place);
  }

  template <int HALVES, int PANELS>
  void multiply(const Place& place) {
    using Step = Step32x2<HALVES, PANELS, Streamed::kRows>;
    const Weights& w = args_.w;
    const Codes c0 = codes_of(args_, place.row, working_.copies);
    Codes c1 = c0;
    if constexpr (HALVES == 2)
      c1 = codes_of(args_, place.row + kTileRows, working_.copies + copy_bytes(w.padded_inputs));
    const std::int64_t done = place.k / kTileInputs;
    const std::uint8_t* x0 = c0.body + done * c0.step;
    const std::uint8_t* x1 = c1.body + done * c1.step;
    const std::byte* weights =
        w.dense.panels + place.first / kPanelOutputs * w.dense.stride + place.k * kPanelOutputs;
    std::int32_t* const sums = place.sums;
    constexpr std::int64_t kHalf = kTileRows * kPanelOutputs;
    constexpr std::int64_t kPanel = Epilogue::kSumsOfPanel;
    if (epilogue_.reads(sums)) epilogue_.finish();
    if (place.k == 0) {
      tile_zero<0>();
      if constexpr (PANELS == 2) tile_zero<1>();
      if constexpr (HALVES == 2) tile_zero<2>();
      if constexpr (HALVES == 2 && PANELS == 2) tile_zero<3>();
    } else {
      tile_load<0>(sums, 64);
      if constexpr (PANELS == 2) tile_load<1>(sums + kPanel, 64);
      if constexpr (HALVES == 2) tile_load<2>(sums + kHalf, 64);
      if constexpr (HALVES == 2 && PANELS == 2) tile_load<3>(sums + kPanel + kHalf, 64);
    }
    for (std::int64_t s = 0; s < place.steps; ++s) {
      const bool tail = place.last && s + 1 == place.steps;
      Step::upper_half(tail ? c0.tail : x0, tail ? c0.tail_stride : c0.body_stride, weights,
                       w.dense.stride);
      Step::lower_half(tail ? c1.tail : x1, tail ? c1.tail_stride : c1.body_stride);
      x0 += c0.step;
      x1 += c1.step;
      weights += kTileBytes;
      ask_for_next();
      epilogue_.step();
    }
    if (place.last) epilogue_.finish();
    tile_store<0>(sums, 64);
    if constexpr (PANELS == 2) tile_store<1>(sums + kPanel, 64);
    if constexpr (HALVES == 2) tile_store<2>(sums + kHalf, 64);
    if constexpr (HALVES == 2 && PANELS == 2) tile_store<3>(sums + kPanel + kHalf, 64);
    if (place.last) epilogue_.start(sums, place.row, place.rows, place.first);
  }

  const TileArgs& args_;
  Working working_;
  Epilogue epilogue_;
  const std::byte* next_ = nullptr;
  const std::byte* next_end_ = nullptr;
  std::int64_t next_per_step_ = 0;
  int next_panels_ = 0;
};

}  // namespace
}  // namespace fastmnist
