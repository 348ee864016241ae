// AVX-512: kernels on rows of floats (kernels/float_rows.h), 16 lanes at a time.
#include "core/types.h"
#include "kernels/float_rows.h"
#include "kernels/x86/avx512_lanes.h"

namespace fastmnist {

extern const RowKernels kAvx512Rows;  // avx512_quantize.cpp

namespace {

bool quantize(const float* x, std::int64_t n, Quantizer quantizer, std::uint8_t* q) {
  return kAvx512Rows.quantize(x, n, quantizer, q);
}

constexpr FloatKernels kFloats = kFloatKernelsOf<Lanes16, quantize>;

}  // namespace

extern const KernelPart kAvx512FunctionsPart;
const KernelPart kAvx512FunctionsPart = {"avx512_vnni", 0, nullptr, nullptr, nullptr, 0, &kFloats};

}  // namespace fastmnist
