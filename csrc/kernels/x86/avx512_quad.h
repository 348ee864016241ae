// What the AVX-512 VNNI kernels for dense weights have in common, in an anonymous namespace: four
// inputs of some rows times a block of some panels.
#pragma once

#include "kernels/unroll.h"
#include "kernels/x86/assembly.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

// The inputs are broadcast by the load, which leaves port 5 to the products.
template <int ROWS, int PANELS>
FASTMNIST_INLINE void add_quad(__m512i (&acc)[ROWS][PANELS], const std::uint8_t* x,
                               std::int64_t x_stride, const std::byte* block,
                               std::int64_t panel_stride) {
  __m512i w[PANELS];
  unrolled<PANELS>(
      [&](auto p) FASTMNIST_INLINE_BODY { w[p] = _mm512_loadu_si512(block + p * panel_stride); });
  unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
    const __m512i x4 = _mm512_broadcastd_epi32(_mm_loadu_si32(x + r * x_stride));
    unrolled<PANELS>([&](auto p) FASTMNIST_INLINE_BODY { add_products(acc[r][p], x4, w[p]); });
  });
}

}  // namespace
}  // namespace fastmnist
