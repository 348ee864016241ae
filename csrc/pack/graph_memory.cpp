#include "pack/graph_memory.h"

#include <algorithm>

#include "kernels/sizes.h"

namespace fastmnist {
namespace {

constexpr std::int64_t kLineFloats = 16;

}  // namespace

ScratchPlan plan_scratch(const std::vector<Lifetime>& lifetimes) {
  ScratchPlan plan;
  std::vector<std::size_t> alive;  // by their offsets
  for (std::size_t i = 0; i < lifetimes.size(); ++i) {
    const Lifetime& own = lifetimes[i];
    const std::int64_t size = round_up(own.floats, kLineFloats);
    std::erase_if(alive, [&](std::size_t other) {
      return lifetimes[other].last < own.first || static_cast<std::int64_t>(other) == own.instead;
    });
    std::int64_t offset = 0;
    if (own.instead >= 0) {
      offset = plan.offsets[static_cast<std::size_t>(own.instead)];
    } else {
      for (const std::size_t other : alive) {
        const std::int64_t begin = plan.offsets[other];
        const std::int64_t end = begin + round_up(lifetimes[other].floats, kLineFloats);
        if (offset + size <= begin) break;
        offset = std::max(offset, end);
      }
    }
    plan.offsets.push_back(offset);
    plan.floats = std::max(plan.floats, offset + size);
    alive.insert(std::upper_bound(alive.begin(), alive.end(), i,
                                  [&](std::size_t a, std::size_t b) {
                                    return plan.offsets[a] < plan.offsets[b];
                                  }),
                 i);
  }
  return plan;
}

}  // namespace fastmnist
