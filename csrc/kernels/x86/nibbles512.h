// From nibbles to blocks of weights in a register, for avx512_nibbles.cpp and amx_nibbles.cpp: in
// an anonymous namespace, so that each keeps a copy of its own.
#pragma once

#include "core/types.h"
#include "kernels/unroll.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

// A panel's blocks, one after the other: two from each 64 bytes.
class NibbleValues {
 public:
  NibbleValues(const Weights& w, std::int64_t panel)
      : at_(w.nibbles.panels + panel * w.nibbles.stride),
        table_(_mm512_loadu_si512(w.nibbles.table)) {}

  FASTMNIST_INLINE void begin_group() {
    unrolled<8>([&](auto line) FASTMNIST_INLINE_BODY {
      _mm_prefetch(reinterpret_cast<const char*>(at_) + kAhead + 64 * line, _MM_HINT_T0);
    });
  }

  FASTMNIST_INLINE __m512i next(int block) {
    __m512i indices;
    if (block % 2 == 0) {
      indices = both_ = _mm512_loadu_si512(at_);
      at_ += kBlockBytes;
    } else {
      indices = _mm512_srli_epi16(both_, 4);
    }
    return _mm512_shuffle_epi8(table_, _mm512_and_si512(indices, _mm512_set1_epi8(15)));
  }

 private:
  static constexpr std::int64_t kAhead = 1024;

  const std::byte* at_;
  __m512i table_;
  __m512i both_ = _mm512_setzero_si512();
};

}  // namespace
}  // namespace fastmnist
