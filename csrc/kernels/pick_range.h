// Which blocks of a form with picks are a panel's: everything here is in an anonymous namespace, as
// kernel files need it.
#pragma once

#include <cstdint>

#include "core/layouts.h"

namespace fastmnist {
namespace {

struct BlockRange {
  std::int64_t begin, end;
};

// Bounded, as packed bytes may come from anywhere.
inline BlockRange blocks_of(const PickPanels& picks, std::int64_t panel) {
  const auto count = static_cast<std::uint64_t>(picks.block_count);
  const auto bounded = [count](std::uint64_t block) {
    return static_cast<std::int64_t>(block < count ? block : count);
  };
  return {bounded(picks.starts[panel]), bounded(picks.starts[panel + 1])};
}

}  // namespace
}  // namespace fastmnist
