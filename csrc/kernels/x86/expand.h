// From bitmask and values to blocks of weights in a register, for avx512_sparse.cpp and
// amx_sparse.cpp: in an anonymous namespace, so that each keeps a copy of its own.
#pragma once

#include "core/types.h"
#include "kernels/unroll.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

// A panel's blocks, one after the other.
class MaskedValues {
 public:
  MaskedValues(const Weights& w, std::int64_t panel)
      : mask_(w.bitmask.masks + panel * (w.padded_inputs / kBlockInputs)),
        end_(w.bitmask.values + w.bitmask.value_count) {
    const std::uint64_t start = w.bitmask.value_starts[panel];
    const auto count = static_cast<std::uint64_t>(w.bitmask.value_count);
    at_ = w.bitmask.values + (start < count ? start : count);
  }

  // Before every 16 blocks: packed bytes may come from anywhere, and masks that say more than there
  // is must not lead beyond the padding. Asks for four lines of values, which is what a quarter of
  // the weights takes; where there are more, the processor sees that they are read in order.
  FASTMNIST_INLINE void begin_group() {
    at_ = at_ < end_ ? at_ : end_;
    ask_for(mask_, 0);
    ask_for(mask_, 64);
    ask_for(at_, 0);
    ask_for(at_, 64);
    ask_for(at_, 128);
    ask_for(at_, 192);
  }

  FASTMNIST_INLINE __m512i next(int) {
    const std::uint64_t mask = *mask_++;
    const __m512i w = _mm512_maskz_expand_epi8(_cvtu64_mask64(mask), _mm512_loadu_si512(at_));
    at_ += __builtin_popcountll(mask);
    return w;
  }

 private:
  static constexpr std::int64_t kAhead = 512;

  FASTMNIST_INLINE static void ask_for(const void* from, std::int64_t further) {
    _mm_prefetch(static_cast<const char*>(from) + kAhead + further, _MM_HINT_T0);
  }

  const std::uint64_t* mask_;
  const std::int8_t* at_;
  const std::int8_t* end_;
};

}  // namespace
}  // namespace fastmnist
