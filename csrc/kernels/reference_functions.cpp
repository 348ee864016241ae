// The definition of kernels on rows of floats: functions.h on one lane.
#include "kernels/float_rows.h"
#include "kernels/reference.h"

namespace fastmnist::reference {
namespace {

bool quantize_row(const float* x, std::int64_t n, Quantizer quantizer, std::uint8_t* q) {
  return quantize(x, n, quantizer, q);
}

}  // namespace

const FloatKernels kFloats = kFloatKernelsOf<float, quantize_row>;

}  // namespace fastmnist::reference
