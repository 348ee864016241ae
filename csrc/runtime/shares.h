// How many rows a thread must get for handing them over to pay off.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "core/status.h"
#include "core/threads.h"

namespace fastmnist {

struct Shares {
  std::int64_t rows;  // per share, a multiple of 32; the last share may have fewer
  std::int64_t count;
};

// A share must last long enough: waking a worker that sleeps costs some 40 µs, one that still spins
// less than one.
inline Result<Shares> shares_of(std::int64_t rows, std::int64_t products_per_row, bool tiles,
                                int max_threads = 0) {
  constexpr std::int64_t kProducts = 12'000'000;
  constexpr std::int64_t kTileProducts = 40'000'000;
  constexpr std::int64_t kStep = 32;
  const std::int64_t worth =
      (tiles ? kTileProducts : kProducts) / std::max<std::int64_t>(1, products_per_row);
  if (rows <= std::max(worth, kStep)) return Shares{rows, 1};
  Result<int> most = max_threads != 0 ? Result<int>(max_threads) : num_threads();
  if (!most.ok()) return std::move(most).status();
  const std::int64_t threads = *most;
  if (threads == 1) return Shares{rows, 1};
  const std::int64_t share = std::max((rows + threads - 1) / threads, worth);
  const std::int64_t grain = (share + kStep - 1) / kStep * kStep;
  return Shares{grain, (rows + grain - 1) / grain};
}

}  // namespace fastmnist
