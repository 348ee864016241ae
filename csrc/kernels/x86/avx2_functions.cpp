// AVX2: kernels on rows of floats (kernels/float_rows.h), 8 lanes at a time.
#include "core/types.h"
#include "kernels/float_rows.h"
#include "kernels/x86/avx2_lanes.h"

namespace fastmnist {

extern const RowKernels kAvx2Rows;  // avx2_quantize.cpp

namespace {

bool quantize(const float* x, std::int64_t n, Quantizer quantizer, std::uint8_t* q) {
  return kAvx2Rows.quantize(x, n, quantizer, q);
}

constexpr FloatKernels kFloats = kFloatKernelsOf<Lanes8, quantize>;

}  // namespace

extern const KernelPart kAvx2FunctionsPart;
const KernelPart kAvx2FunctionsPart = {"avx2", 0, nullptr, nullptr, nullptr, 0, &kFloats};

}  // namespace fastmnist
