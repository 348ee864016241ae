// Which inputs of some rows are not all zero: what is zero in every row adds nothing to the sums
// (where a zero point is not 0, it is in the sums of the weights), so its weights need not be read.
// 81 % of MNIST's pixels are 0, and half of what follows a ReLU.
//
//     rows       0 0 0 5 | 0 0 0 0 | 7 0 1 0 | 0 0 0 0 | ...       inputs by fours ("quads")
//                0 0 0 0 | 0 0 0 0 | 0 0 0 0 | 0 0 0 0 | ...
//     live       yes       no        yes       no                  list: 0, 2, ...
//
// In an anonymous namespace, as kernel files need it.
#pragma once

#include "core/types.h"
#include "kernels/unroll.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

constexpr std::int64_t kGroupQuads = 8;  // of one register
constexpr std::int64_t kGroupInputs = kGroupQuads * kBlockInputs;

// Lists are written eight at a time; that many may lie behind the last.
constexpr std::int64_t kListPadding = kGroupQuads;

// Places of the bits of a byte, one after the other.
struct BitPlaces {
  std::uint8_t of[256][8] = {};
  constexpr BitPlaces() {
    for (int byte = 0; byte < 256; ++byte)
      for (int bit = 0, n = 0; bit < 8; ++bit)
        if ((byte >> bit & 1) != 0) of[byte][n++] = static_cast<std::uint8_t>(bit);
  }
};
constexpr BitPlaces kBitPlaces;

// A bit for each of the 8 lanes that is not zero.
FASTMNIST_INLINE int nonzero_lanes(__m256i lanes) {
  const __m256i zero = _mm256_cmpeq_epi32(lanes, _mm256_setzero_si256());
  return ~_mm256_movemask_ps(_mm256_castsi256_ps(zero)) & 0xff;
}

// A list of numbers below 65,536.
class List {
 public:
  explicit List(std::uint16_t* to) : to_(to) {}

  // Of first ... first + 7, those whose bits are set.
  FASTMNIST_INLINE void add(std::int64_t first, int bits) {
    const __m128i places =
        _mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(kBitPlaces.of[bits])));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to_ + count_),
                     _mm_add_epi16(places, _mm_set1_epi16(static_cast<short>(first))));
    count_ += __builtin_popcount(static_cast<unsigned>(bits));
  }
  std::int64_t count() const { return count_; }

 private:
  std::uint16_t* to_;
  std::int64_t count_ = 0;
};

// 32 codes of a row, or as many as it has from k on and zeros.
FASTMNIST_INLINE __m256i load_codes(const std::uint8_t* row, std::int64_t k, std::int64_t inputs) {
  if (k + kGroupInputs <= inputs)
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + k));
  alignas(32) std::uint8_t tail[kGroupInputs] = {};
  for (std::int64_t i = k; i < inputs; ++i) tail[i - k] = row[i];
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(tail));
}

}  // namespace
}  // namespace fastmnist
