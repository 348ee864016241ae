// AMX int8 kernel for weights in nibbles (core/layouts.h), for up to 64 rows: with 96 the dense
// loops are as fast, with 256 a tenth faster, as reading weights is no longer what takes the time.
#include "core/types.h"
#include "kernels/x86/amx_decoded.h"
#include "kernels/x86/nibbles512.h"

namespace fastmnist {
namespace {

constexpr LinearKernel kLinears[] = {decoded_kernel<NibbleValues>(
    WeightForm::kNibbles, kFewRows, [](const LinearShape& shape) { return shape.rows <= 64; })};

}  // namespace

extern const KernelPart kAmxNibblesPart;
const KernelPart kAmxNibblesPart = {"amx_int8", 0, nullptr, nullptr, kLinears, 1};

}  // namespace fastmnist
