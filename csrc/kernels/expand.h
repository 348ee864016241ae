// From bitmask and values to blocks of weights in a register, for avx512_sparse.cpp and
// amx_sparse.cpp: in an anonymous namespace, so that each keeps a copy of its own.
#pragma once

#include <immintrin.h>

#include "core/types.h"
#include "kernels/unroll.h"

namespace fastmnist {
namespace {

// A panel's blocks, one after the other.
class MaskedValues {
 public:
  MaskedValues(const PackedSparse& sparse, const PackedDense& w, std::int64_t panel)
      : mask_(sparse.masks + panel * (w.padded_inputs / kBlockInputs)),
        end_(sparse.values + sparse.value_count) {
    const std::uint64_t start = sparse.value_starts[panel];
    const auto count = static_cast<std::uint64_t>(sparse.value_count);
    at_ = sparse.values + (start < count ? start : count);
  }

  // Before every 16 blocks: packed bytes may come from anywhere, and masks that say more than there
  // is must not lead beyond the padding.
  FASTMNIST_INLINE void begin_group() {
    at_ = at_ < end_ ? at_ : end_;
    _mm_prefetch(reinterpret_cast<const char*>(mask_) + kAhead, _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(mask_) + kAhead + 64, _MM_HINT_T0);
  }

  FASTMNIST_INLINE __m512i next() {
    const std::uint64_t mask = *mask_++;
    _mm_prefetch(reinterpret_cast<const char*>(at_ + kAhead), _MM_HINT_T0);
    const __m512i w = _mm512_maskz_expand_epi8(_cvtu64_mask64(mask), _mm512_loadu_si512(at_));
    at_ += __builtin_popcountll(mask);
    return w;
  }

 private:
  static constexpr std::int64_t kAhead = 512;
  const std::uint64_t* mask_;
  const std::int8_t* at_;
  const std::int8_t* end_;
};

}  // namespace
}  // namespace fastmnist
