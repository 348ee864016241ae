// AMX int8 kernel for sparse weights in bitmask form (core/layouts.h).
#include "core/features.h"
#include "core/types.h"
#include "kernels/x86/amx_decoded.h"
#include "kernels/x86/expand.h"

namespace fastmnist {
namespace {

constexpr LinearKernel kLinears[] = {
    decoded_kernel<MaskedValues>(WeightForm::kBitmask, kWhereMeasured, nullptr)};

}  // namespace

extern const KernelPart kAmxSparsePart;
const KernelPart kAmxSparsePart = {
    "amx_int8", kAvx512Vbmi | kAvx512Vbmi2, nullptr, nullptr, kLinears, 1};

}  // namespace fastmnist
