// The read probe, for vectors of BYTES bytes; each file that includes it compiles its own copy.
#pragma once

#include <cstring>

#include "kernels/peak.h"
#include "kernels/unroll.h"

namespace fastmnist {
namespace {

template <int BYTES, int STREAMS, bool PREFETCH>
std::uint64_t read_streams(const std::byte* data, std::int64_t bytes, std::int64_t ahead) {
  typedef std::uint64_t Vector __attribute__((vector_size(BYTES), may_alias));
  constexpr int kLine = 64;
  constexpr int kSums = 8;
  constexpr int kSteps = kSums * BYTES / kLine / STREAMS > 0 ? kSums * BYTES / kLine / STREAMS : 1;
  const std::int64_t part = bytes / STREAMS;
  Vector sums[kSums] = {};
  for (std::int64_t i = 0; i < part; i += kSteps * kLine) {
    unrolled<STREAMS * kSteps>([&](auto k) {
      const std::byte* line = data + (k / kSteps) * part + i + (k % kSteps) * kLine;
      if constexpr (PREFETCH) __builtin_prefetch(line + ahead);
      unrolled<kLine / BYTES>([&](auto v) {
        sums[(k * (kLine / BYTES) + v) % kSums] ^=
            *reinterpret_cast<const Vector*>(line + v * BYTES);
      });
    });
  }
  Vector all = sums[0];
  for (int s = 1; s < kSums; ++s) all ^= sums[s];
  std::uint64_t lanes[BYTES / sizeof(std::uint64_t)];
  std::memcpy(lanes, &all, sizeof lanes);
  std::uint64_t result = 0;
  for (const std::uint64_t lane : lanes) result ^= lane;
  return result;
}

template <int BYTES, int STREAMS>
std::uint64_t read_streams(const std::byte* data, std::int64_t bytes, std::int64_t ahead) {
  return ahead == 0 ? read_streams<BYTES, STREAMS, false>(data, bytes, ahead)
                    : read_streams<BYTES, STREAMS, true>(data, bytes, ahead);
}

template <int BYTES>
std::uint64_t read(const std::byte* data, std::int64_t bytes, ReadPattern pattern) {
  switch (pattern.streams) {
    case 8:
      return read_streams<BYTES, 8>(data, bytes, pattern.ahead);
    case 4:
      return read_streams<BYTES, 4>(data, bytes, pattern.ahead);
    case 2:
      return read_streams<BYTES, 2>(data, bytes, pattern.ahead);
    default:
      return read_streams<BYTES, 1>(data, bytes, pattern.ahead);
  }
}

}  // namespace
}  // namespace fastmnist
