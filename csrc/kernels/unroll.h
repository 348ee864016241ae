// Loops over accumulators that must be unrolled: an array indexed by a variable lives in memory,
// and compilers do not unroll every short loop before they decide that.
//
//     unrolled<4>([&](auto i) { sums[i] = add(sums[i], ...); });      i is 0, 1, 2, 3: constants
#pragma once

#define FASTMNIST_INLINE inline __attribute__((always_inline))
// Behind a lambda's parameters. Without it GCC may inline the body only after it has decided what
// lives in memory.
#define FASTMNIST_INLINE_BODY __attribute__((always_inline))

namespace fastmnist {
namespace {

template <int I>
struct Index {
  constexpr operator int() const { return I; }  // NOLINT(google-explicit-constructor)
};

template <int N, int I = 0, typename Body>
constexpr FASTMNIST_INLINE void unrolled(const Body& body) {
  if constexpr (I < N) {
    body(Index<I>{});
    unrolled<N, I + 1>(body);
  }
}

}  // namespace
}  // namespace fastmnist
