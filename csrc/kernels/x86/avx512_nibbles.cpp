// AVX-512 VNNI kernels for weights in nibbles (core/layouts.h), of 4 bits or 16 clusters.
//
// Reading is what layers from far away take their time for, and there is half as much to read:
// VPSHUFB looks 64 weights up, three more instructions part two blocks. Few rows decode in the
// loop, eight rows at a time; many have panels decoded into scratch memory and go by the dense
// kernel.
#include "core/types.h"
#include "kernels/x86/avx512_decoded.h"
#include "kernels/x86/avx512_epilogue.h"
#include "kernels/x86/decoded_panels.h"
#include "kernels/x86/intrinsics.h"
#include "kernels/x86/nibbles512.h"

namespace fastmnist {

extern const KernelPart kAvx512VnniPart;

namespace {

template <Output O>
void in_loop(const LinearArgs& args) {
  over_panels<8, kDecodedRows<NibbleValues, O>>(args);
}

const LinearKernel& dense_kernel() { return kAvx512VnniPart.linears[0]; }

template <Output O>
void by_panels(const LinearArgs& args) {
  const LinearKernel& dense = dense_kernel();
  by_decoded_panels(args, O == Output::kFloats ? dense.linear_f32 : dense.linear_u8,
                    O == Output::kFloats ? sizeof(float) : 1,
                    [&](std::int64_t panel, std::byte* to) {
                      NibbleValues values(args.w, panel);
                      for (std::int64_t k = 0; k < args.w.padded_inputs; k += kInputPadding) {
                        values.begin_group();
                        unrolled<kInputPadding / kBlockInputs>([&](auto b) FASTMNIST_INLINE_BODY {
                          _mm512_storeu_si512(to + b * kBlockBytes, values.next(b));
                        });
                        to += kInputPadding * kPanelOutputs;
                      }
                    });
}

constexpr LinearKernel kLinears[] = {
    {"avx512_vnni", "decoded", 6, 4, WeightForm::kNibbles, kManyRows, nullptr,
     [](const LinearShape& shape) { return shape.rows > 8; },
     [](const LinearShape& shape) { return decoded_scratch(shape, dense_kernel()); },
     by_panels<Output::kFloats>, by_panels<Output::kCodes>},
    {"avx512_vnni", "", 8, 1, WeightForm::kNibbles, kFewestRows | kFewRows, nullptr, nullptr,
     nullptr, in_loop<Output::kFloats>,
     by_saturation<in_loop<Output::kSaturate>, in_loop<Output::kCodes>>}};

}  // namespace

extern const KernelPart kAvx512NibblesPart;
const KernelPart kAvx512NibblesPart = {"avx512_vnni", 0, nullptr, nullptr, kLinears, 2};

}  // namespace fastmnist
