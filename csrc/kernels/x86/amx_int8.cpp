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
//       narrow    up to 128 inputs, in pairs  16 x 2, the weights stay in tiles   amx_narrow.h
//       wide      more, from 17 rows on       32 x 2, rows by lines               amx_wide.h
//     any layer
//       strips    few rows, or few inputs     16 x 4                              amx_strips.h
//       blocks    many rows                   32 x 2                              amx_blocks.h
//       columns   at most 16 outputs          64 x 1                              amx_columns.h
//       slices    many rows, weights far      32 x 2, in slices of inputs         amx_slices.h
//
// Each is a kernel, so that the planner measures all that can compute a layer.
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

template <template <Output> class Loop>
void floats(const LinearArgs& args) {
  run<Loop<Output::kFloats>, Output::kFloats>(args);
}

template <template <Output> class Loop, Output O>
void codes_by(const LinearArgs& args) {
  run<Loop<O>, O>(args);
}

template <template <Output> class Loop>
constexpr auto to_codes =
    by_saturation<codes_by<Loop, Output::kSaturate>, codes_by<Loop, Output::kCodes>>;

template <template <Output> class Loop>
constexpr LinearKernel any_kernel(const char* loop, int rows, int panels, int suits,
                                  bool (*can)(const LinearShape&)) {
  return {"amx_int8", loop, rows,           panels,       WeightForm::kDense, suits,
          &kAmxUnit,  can,  Working::bytes, floats<Loop>, to_codes<Loop>};
}

template <template <Output> class Loop>
constexpr LinearKernel hidden_kernel(const char* loop, int rows, int panels, int suits) {
  return {"amx_int8",         loop,    rows,          panels,
          WeightForm::kDense, suits,   &kAmxUnit,     Loop<Output::kCodes>::can,
          Working::bytes,     nullptr, to_codes<Loop>};
}

// The rule takes the first that can and suits.
constexpr LinearKernel kLinears[] = {
    any_kernel<Columns>("columns", 64, 1, kFewRows | kManyRows, Columns<Output::kFloats>::can),
    any_kernel<Slices>("slices", 32, 2, kManyRows, Slices<Output::kFloats>::can),
    hidden_kernel<Narrow>("narrow", 16, 2, kFewRows | kManyRows),
    hidden_kernel<Wide>("wide", 32, 2, kManyRows),
    any_kernel<Strips>("strips", 16, 4, kFewRows, nullptr),
    any_kernel<Blocks>("blocks", 32, 2, kManyRows, nullptr)};

}  // namespace

const Unit kAmxUnit = {tile_configure, tile_release};

extern const PeakProbe kAmxInt8Peak;

extern const KernelPart kAmxInt8Part;
const KernelPart kAmxInt8Part = {"amx_int8", 0, nullptr, &kAmxInt8Peak, kLinears, 6};

}  // namespace fastmnist
