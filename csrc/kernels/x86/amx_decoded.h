// AMX on weights that are decoded (bitmask, nibbles): in an anonymous namespace, as kernel files
// need it. A class of values is as in avx512_decoded.h.
//
// A tile of weights, 16 blocks, is decoded into a register each and stored to a small ring in the
// first-level cache, from where it is loaded as a tile some steps later (a tile load waits for
// stores that are still on their way). Decoding a bitmask takes some 15 ns a tile and the products
// of 32 rows x 2 panels less: few rows cost what decoding costs.
//
//     values ─ decode ─► [ s+2 | s+3 | s | s+1 ]  ring of 4 steps x panels x 1 KB ─► tmm6, tmm7
//
// Up to 32 rows are done so. More rows decode two panels whole, into the second-level cache, and
// send all rows over them by the dense blocks: each weight is decoded once either way. Rows in tile
// order, as they are where weights come from far away, let the first 32 of them go by while a panel
// is decoded: the unit multiplies meanwhile.
#pragma once

#include "core/types.h"
#include "kernels/sizes.h"
#include "kernels/x86/amx_blocks.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

// One panel's weights as tiles.
template <typename Values>
class PanelDecoder {
 public:
  PanelDecoder(const Weights& w, std::int64_t panel) : values_(w, panel) {}

  FASTMNIST_INLINE void tile(std::byte* to) {
    Values values = values_;  // in registers meanwhile
    values.begin_group();
    unrolled<kTileBytes / kBlockBytes>(
        [&](auto b) { _mm512_store_si512(to + b * kBlockBytes, values.next(b)); });
    values_ = values;
  }

 private:
  Values values_;
};

// HALVES x 16 rows by PANELS panels at a time: four accumulators, tmm0 to tmm3, panel by panel.
// With WHOLE the panels stay, one behind the other, as the dense blocks read them.
template <typename Values, Output O, int HALVES, int PANELS, bool WHOLE = false>
class FewRows {
 public:
  explicit FewRows(const TileArgs& args)
      : args_(args),
        working_(args),
        epilogue_(args),
        steps_(args.w.padded_inputs / kTileInputs),
        ring_(decoded_of(args, working_)) {}

  void run() {
    find_codes();
    for (std::int64_t first = 0; first < args_.w.outputs;
         first += PANELS * kPanelOutputs, turn_ ^= 1) {
      const std::int64_t left = panels_of(args_.w.outputs - first);
      multiply_up_to<PANELS>(first, left);
      epilogue_.finish();
      epilogue_.start(working_.sums[turn_], 0, args_.rows, first);
    }
    epilogue_.finish();
  }

  // The panels of outputs `first` ... alone, after find_codes().
  void multiply_panels(std::int64_t first) {
    multiply_up_to<PANELS>(first, panels_of(args_.w.outputs - first));
    epilogue_.start(working_.sums[0], 0, args_.rows, first);
    epilogue_.finish();
  }

  void find_codes() {
    TileArgs codes(args_);
    // Passed over by many panels, rows are better in tile order: 16 rows some kilobytes apart would
    // push each other out of the first-level cache.
    if (!args_.x_tiled && args_.w.outputs >= kManyPanels) {
      tile_rows(args_.x, args_.x_stride, args_.rows, args_.w.inputs, working_.copies);
      codes.x = working_.copies;
      codes.x_tiled = true;
    }
    unrolled<HALVES>([&](auto h) {
      codes_[h] =
          codes_of(codes, h * kTileRows, working_.copies + h * copy_bytes(args_.w.padded_inputs));
    });
  }

 private:
  static_assert(HALVES * PANELS == 4);
  using Epilogue = BlockEpilogue<O, HALVES * kTileRows, PANELS>;

  std::byte* slot(std::int64_t step, int panel) const {
    if constexpr (WHOLE) return ring_ + (panel * steps_ + step) * kTileBytes;
    return ring_ + (step % kRingSteps * PANELS + panel) * kTileBytes;
  }

  template <int P>
  void multiply_up_to(std::int64_t first, std::int64_t left) {
    if constexpr (P > 1) {
      if (left < P) return multiply_up_to<P - 1>(first, left);
    }
    multiply<P>(first / kPanelOutputs);
  }

  // P panels, one after the other in memory.
  template <int P>
  void multiply(std::int64_t panel) {
    const auto decoder = [&](int p) {
      return PanelDecoder<Values>(args_.w, panel + (p < P ? p : 0));
    };
    PanelDecoder<Values> panels[4] = {decoder(0), decoder(1), decoder(2), decoder(3)};
    const auto decode = [&](std::int64_t step) __attribute__((always_inline)) {
      unrolled<P>([&](auto p) __attribute__((always_inline)) { panels[p].tile(slot(step, p)); });
    };
    unrolled<4>([&](auto t) { tile_zero<t>(); });
    for (std::int64_t s = 0; s < kAhead && s < steps_; ++s) decode(s);
    const std::uint8_t* x[HALVES];
    unrolled<HALVES>([&](auto h) { x[h] = codes_[h].body; });
    for (std::int64_t s = 0; s < steps_; ++s) {
      if (s + kAhead < steps_) decode(s + kAhead);
      unrolled<HALVES>([&](auto h) {
        const bool tail = s + 1 == steps_;
        tile_load<4 + h>(tail ? codes_[h].tail : x[h],
                         tail ? codes_[h].tail_stride : codes_[h].body_stride);
        x[h] += codes_[h].step;
      });
      unrolled<P>([&](auto p) {
        tile_load<6 + p % 2>(slot(s, p), 64);
        unrolled<HALVES>([&](auto h) { tile_multiply<p * HALVES + h, 4 + h, 6 + p % 2>(); });
      });
      epilogue_.step();
    }
    std::int32_t* const sums = working_.sums[turn_];
    unrolled<P>([&](auto p) {
      unrolled<HALVES>([&](auto h) {
        tile_store<p * HALVES + h>(
            sums + p * Epilogue::kSumsOfPanel + h * kTileRows * kPanelOutputs, 64);
      });
    });
  }

  static constexpr std::int64_t kManyPanels = 128;  // their outputs
  static constexpr std::int64_t kAhead = 1;         // steps that are decoded before they are used
  static constexpr std::int64_t kRingSteps = 2;     // a power of two above that
  static_assert(kRingSteps * PANELS * kTileBytes <= kDecodedBytes);

  const TileArgs& args_;
  Working working_;
  Epilogue epilogue_;
  std::int64_t steps_;
  std::byte* ring_;
  Codes codes_[HALVES] = {};
  int turn_ = 0;
};

// Two panels at a time become dense ones; the constants of their epilogue stay where they are.
template <typename Values, Output O>
void many_rows(const TileArgs& args) {
  const Working working(args);
  std::byte* const decoded = decoded_of(args, working);
  const std::int64_t value = O == Output::kFloats ? sizeof(float) : 1;
  TileArgs part(args);
  const std::int64_t stride = args.w.padded_inputs * kPanelOutputs;
  part.w.dense = {decoded, stride};
  TileArgs few(args);
  few.rows = kBlockRows;
  FewRows<Values, O, 2, 2, true> first_rows(few);
  if (args.x_tiled) {  // whatever it does has no need of copies
    first_rows.find_codes();
    part.rows -= kBlockRows;
    part.x += kBlockRows * args.w.padded_inputs;
    if (part.row_quantizers != nullptr) part.row_quantizers += kBlockRows;
  }
  for (std::int64_t first = 0; first < args.w.outputs; first += kBlockOutputs) {
    const std::int64_t panel = first / kPanelOutputs;
    const std::int64_t left = args.w.outputs - first;
    part.w.outputs = left < kBlockOutputs ? left : kBlockOutputs;
    part.w.epilogues = args.w.epilogues + panel * args.w.epilogue_stride;
    part.y =
        static_cast<std::byte*>(args.y) + ((args.rows - part.rows) * args.y_stride + first) * value;
    if (args.x_tiled) {
      first_rows.multiply_panels(first);
    } else {
      for (std::int64_t p = 0; p * kPanelOutputs < part.w.outputs; ++p) {
        PanelDecoder<Values> decoder(args.w, panel + p);
        for (std::int64_t at = 0; at < stride; at += kTileBytes)
          decoder.tile(decoded + p * stride + at);
      }
    }
    Blocks<O>(part).run();
    part.prefetch_bytes = 0;
  }
}

template <typename Values, Output O>
class Decoded {
 public:
  explicit Decoded(const TileArgs& args) : args_(args) {}

  void run() {
    if (args_.rows <= kTileRows)
      FewRows<Values, O, 1, 4>(args_).run();
    else if (args_.rows <= kBlockRows)
      FewRows<Values, O, 2, 2>(args_).run();
    else
      many_rows<Values, O>(args_);
  }

 private:
  const TileArgs& args_;
};

template <typename Values, Output O>
void decoded(const LinearArgs& args) {
  run<Decoded<Values, O>, O>(args);
}

template <typename Values>
constexpr LinearKernel decoded_kernel(WeightForm form, int suits, bool (*can)(const LinearShape&)) {
  return {"amx_int8",
          "",
          32,
          2,
          form,
          suits,
          &kAmxUnit,
          can,
          Working::bytes,
          decoded<Values, Output::kFloats>,
          by_saturation<decoded<Values, Output::kSaturate>, decoded<Values, Output::kCodes>>};
}

}  // namespace
}  // namespace fastmnist
