// AMX int8 kernel for weights in nibbles (core/layouts.h).
#include "core/types.h"
#include "kernels/x86/amx_decoded.h"
#include "kernels/x86/nibbles512.h"

namespace fastmnist {
namespace {

constexpr LinearKernel kLinears[] = {
    decoded_kernel<NibbleValues>(WeightForm::kNibbles, kFewRows | kManyRows)};

}  // namespace

extern const KernelPart kAmxNibblesPart;
const KernelPart kAmxNibblesPart = {"amx_int8", 0, nullptr, nullptr, kLinears, 1};

}  // namespace fastmnist
