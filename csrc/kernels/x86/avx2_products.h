// Products added to sums that stay where they are, for the AVX2 kernels: in an anonymous namespace.
//
// As inline assembly. With intrinsics GCC 12 moves two dozen sums from register to register, and
// half of them through memory, in every turn of an unrolled loop, for half the speed
// (.ci/inner_loops looks for that).
#pragma once

#include "kernels/x86/intrinsics.h"

#include <cstddef>
#include <cstdint>

#include "kernels/unroll.h"
#include "kernels/x86/avx2_epilogue.h"

namespace fastmnist {
namespace {

// sums += x[2i] * w[2i] + x[2i + 1] * w[2i + 1], 16 bits each.
FASTMNIST_INLINE void add_products(__m256i& sums, __m256i x, __m256i w) {
#if defined(FASTMNIST_EMULATED)
  sums = _mm256_add_epi32(sums, _mm256_madd_epi16(x, w));
#else
  __m256i products;
  __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0"
          : "+x"(sums), "=&x"(products)
          : "x"(x), "x"(w));
#endif
}

// Four codes of a row, or two of 16 bits, for all outputs.
FASTMNIST_INLINE __m256i broadcast_quad(const void* p) {
  return _mm256_broadcastd_epi32(_mm_loadu_si32(p));
}

template <int ROWS>
FASTMNIST_INLINE void clear(__m256i (&acc)[ROWS][2]) {
  unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
    acc[r][0] = _mm256_setzero_si256();
    acc[r][1] = _mm256_setzero_si256();
  });
}

// Pairs of inputs that are listed, 32 bits of each row, by weights(pair, half) of a panel.
template <int ROWS, typename Weights>
FASTMNIST_INLINE void add_pairs(__m256i (&acc)[ROWS][2], const std::byte* rows, std::int64_t stride,
                                const std::uint16_t* list, std::int64_t count,
                                const Weights& weights) {
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t pair = list[i];
    const __m256i low = weights(pair, Index<0>{});
    const __m256i high = weights(pair, Index<1>{});
    const std::byte* x = rows + pair * 4;
    unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
      const __m256i codes = broadcast_quad(x + r * stride);
      add_products(acc[r][0], codes, low);
      add_products(acc[r][1], codes, high);
    });
  }
}

// The same for four inputs of 8 outputs as bytes, where no sum of two products exceeds 16 bits.
FASTMNIST_INLINE void add_byte_products(__m256i& sums, __m256i x, const std::byte* w) {
#if defined(FASTMNIST_EMULATED)
  sums = _mm256_add_epi32(
      sums, _mm256_madd_epi16(_mm256_maddubs_epi16(x, load_bytes(w)), _mm256_set1_epi16(1)));
#else
  __m256i products;
  // Weights straight from memory: with 12 sums there is no register to keep them in.
  __asm__("vpmaddubsw %3, %2, %1\n\tvpmaddwd %4, %1, %1\n\tvpaddd %1, %0, %0"
          : "+x"(sums), "=&x"(products)
          : "x"(x), "m"(*reinterpret_cast<const __m256i_u*>(w)), "x"(_mm256_set1_epi16(1)));
#endif
}

// In 16 bits.
FASTMNIST_INLINE __m256i short_products(__m256i x, const std::byte* w) {
  return _mm256_maddubs_epi16(x, load_bytes(w));
}
FASTMNIST_INLINE __m256i short_products(__m256i x, __m256i w) { return _mm256_maddubs_epi16(x, w); }

// The same into 16 bits, for weights so small that several such sums fit there.
FASTMNIST_INLINE void add_short_products(__m256i& sums, __m256i x, const std::byte* w) {
#if defined(FASTMNIST_EMULATED)
  sums = _mm256_add_epi16(sums, _mm256_maddubs_epi16(x, load_bytes(w)));
#else
  __m256i products;
  __asm__("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0"
          : "+x"(sums), "=&x"(products)
          : "x"(x), "m"(*reinterpret_cast<const __m256i_u*>(w)));
#endif
}

FASTMNIST_INLINE void add_short_products(__m256i& sums, __m256i x, __m256i w) {
#if defined(FASTMNIST_EMULATED)
  sums = _mm256_add_epi16(sums, _mm256_maddubs_epi16(x, w));
#else
  __m256i products;
  __asm__("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0"
          : "+x"(sums), "=&x"(products)
          : "x"(x), "x"(w));
#endif
}

// How many quads of codes may be added so: 2 * 255 * most * quads < 32,768.
constexpr int short_quads(int most_weight) {
  return most_weight <= 8 ? 8 : most_weight <= 16 ? 4 : 0;
}

// Codes in two parts, x = 2 * high + low, of which high has 7 bits: products of 7 bits fit the 16
// of VPMADDUBSW, and those of the single bits add up there for kMostLows times. Both are exact.
struct Halves {
  __m256i high, low;
};
struct SplitSums {
  __m256i high;  // 32 bits
  __m256i low;   // 16 bits
};
constexpr std::int64_t kMostLows = 64;  // 64 * 2 * 128 < 32,768

// Four inputs of 8 outputs.
FASTMNIST_INLINE void add_split_products(SplitSums& sums, const Halves& x, __m256i w) {
#if defined(FASTMNIST_EMULATED)
  sums.high = _mm256_add_epi32(
      sums.high, _mm256_madd_epi16(_mm256_maddubs_epi16(x.high, w), _mm256_set1_epi16(1)));
  sums.low = _mm256_add_epi16(sums.low, _mm256_maddubs_epi16(x.low, w));
#else
  __m256i high;
  __m256i low;
  __asm__(
      "vpmaddubsw %6, %4, %2\n\tvpmaddubsw %6, %5, %3\n\t"
      "vpmaddwd %7, %2, %2\n\tvpaddw %3, %1, %1\n\tvpaddd %2, %0, %0"
      : "+x"(sums.high), "+x"(sums.low), "=&x"(high), "=&x"(low)
      : "x"(x.high), "x"(x.low), "x"(w), "x"(_mm256_set1_epi16(1)));
#endif
}

// Before `low` could overflow: it goes to `rest`, in 32 bits.
FASTMNIST_INLINE void flush_low(SplitSums& sums, __m256i& rest) {
  rest = _mm256_add_epi32(rest, _mm256_madd_epi16(sums.low, _mm256_set1_epi16(1)));
  sums.low = _mm256_setzero_si256();
}

FASTMNIST_INLINE __m256i whole_sums(const SplitSums& sums, __m256i rest) {
  return _mm256_add_epi32(_mm256_slli_epi32(sums.high, 1), rest);
}

// 32 codes.
FASTMNIST_INLINE Halves split(__m256i codes) {
  return {_mm256_and_si256(_mm256_srli_epi16(codes, 1), _mm256_set1_epi8(0x7f)),
          _mm256_and_si256(codes, _mm256_set1_epi8(1))};
}

}  // namespace
}  // namespace fastmnist
