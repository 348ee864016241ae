// AMX int8 kernels.
//
// TDPBUSD multiplies a tile of 16 rows x 64 codes by one of 64 inputs x 16 outputs: 16,384 exact
// products in 16 cycles. With one accumulator the unit would wait for its own result two thirds of
// the time; with four it does not, as blocks (32 rows x 2 panels) or strips (16 x 4). The packed
// layout is the tile: 16 blocks of a panel on end are 64 inputs x 16 outputs.
//
// The epilogue of a block runs between the products of the next (amx_epilogue.h). K is padded with
// zero weights, so the last tile of codes may hold anything (amx_codes.h).
//
//     hidden layers, codes to codes, whole panels
//       up to 128 inputs, in pairs  16 x 2, the weights stay in tiles   amx_narrow.h
//       more, from 17 rows on       32 x 2, rows by lines               amx_wide.h
//     any others
//       few rows, or few inputs     16 x 4                              amx_strips.h
//       many rows                   32 x 2                              amx_blocks.h
//       at most 16 outputs          64 x 1                              amx_columns.h
//       many rows, weights far      32 x 2, in slices of inputs         amx_slices.h
//
// What was tried for 784-96-256-10 and is not here, in µs per 32 rows (as it is: 2.3 for all
// layers): two layers at once, products of one between those of the other, 2.5 instead of 2.2 for
// both (more tile loads, and the unit is held back by power, not by waiting); rounding by
// adding 1.5 * 2^23 instead of converting, 10 % faster alone and 5 % slower behind the first layer,
// for the same reason; rows copied to tile order, 1.16 instead of 1.08; rows of floats quantized
// between products, 4.8 instead of 3.5 and 0.9 one after the other (rows from far away and weights
// from the second-level cache want the same sixteen line buffers).
#include "core/types.h"
#include "kernels/x86/amx_blocks.h"
#include "kernels/x86/amx_columns.h"
#include "kernels/x86/amx_narrow.h"
#include "kernels/x86/amx_slices.h"
#include "kernels/x86/amx_strips.h"
#include "kernels/x86/amx_wide.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

// Runs it as a hidden layer, if it is one that the kernels for those take.
template <Output O>
bool hidden(const LinearArgs& args) {
  if constexpr (O != Output::kFloats) {
    if (Narrow<O>::suits(args)) {
      Narrow<O>(args).run();
      return true;
    }
    if (Wide<O>::suits(args) && !Slices<O>::suits(args)) {
      Wide<O>(args).run();
      return true;
    }
  }
  return false;
}

template <Output O>
void blocks(const LinearArgs& args) {
  if (Columns<O>::suits(args))
    Columns<O>(args).run();
  else if (Slices<O>::suits(args))
    Slices<O>(args).run();
  else if (!hidden<O>(args))
    Blocks<O>(args).run();
}

template <Output O>
void strips(const LinearArgs& args) {
  if (Columns<O>::suits(args))
    Columns<O>(args).run();
  else if (args.w.padded_inputs > 2 * kTileInputs || !hidden<O>(args))
    Strips<O>(args).run();
}

}  // namespace

extern const TileUnit kAmxUnit;
const TileUnit kAmxUnit = {tile_configure, tile_release, Working::bytes, tile_rows};

extern const LinearKernel kAmxInt8Kernels[2];
const LinearKernel kAmxInt8Kernels[2] = {
    {"amx_int8 16x4", WeightForm::kDense, LinearKernel::Suits::kFewRows, true,
     strips<Output::kFloats>, by_saturation<strips<Output::kSaturate>, strips<Output::kCodes>>},
    {"amx_int8 32x2", WeightForm::kDense, LinearKernel::Suits::kManyRows, true,
     blocks<Output::kFloats>, by_saturation<blocks<Output::kSaturate>, blocks<Output::kCodes>>}};

}  // namespace fastmnist
