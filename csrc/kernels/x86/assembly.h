// What kernels say in assembly, because the compilers' intrinsics say something else; the tile
// instructions are in amx_tile.h. Each with what it does where it is emulated (intrinsics.h).
#pragma once

#include "kernels/unroll.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

#if defined(FASTMNIST_EMULATED)

FASTMNIST_INLINE void add_products(__m512i& sums, __m512i codes, __m512i weights) {
  sums = _mm512_dpbusd_epi32(sums, codes, weights);
}

FASTMNIST_INLINE void prefetch_for_writing(const void*) {}

#else

#if defined(__AVX512VNNI__)
// VPDPBUSD adds to a register that it also reads. With the intrinsic, GCC 12 copies two dozen sums
// from register to register in every turn of the loop, for half the speed; here they stay in place.
FASTMNIST_INLINE void add_products(__m512i& sums, __m512i codes, __m512i weights) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(codes), "v"(weights));
}
#endif

// The intrinsic asks as for reading, unless all of the file may use what came with 3DNow.
FASTMNIST_INLINE void prefetch_for_writing(const void* line) {
  __asm__ volatile("prefetchw %0" : : "m"(*static_cast<const char*>(line)));
}

#endif

// Nobody wants the sums of a probe, but the compiler must not know. (By their registers: what is
// said to be in memory GCC keeps there all the time.)
template <typename Vector>
FASTMNIST_INLINE void keep(Vector sums) {
#if defined(FASTMNIST_EMULATED)
  __asm__ volatile("" : : "m"(sums));
#else
  __asm__ volatile("" : : "v"(sums));
#endif
}

// The same value as far as the processor knows, not the compiler: or a probe's product of two
// constants would leave its loop.
FASTMNIST_INLINE __m256i fresh(__m256i x) {
#if defined(FASTMNIST_EMULATED)
  __asm__ volatile("" : "+m"(x));
#else
  __asm__ volatile("" : "+x"(x));
#endif
  return x;
}

}  // namespace
}  // namespace fastmnist
