// How much stays near this machine's cores: what rules and measurements go by, read once.
//
// Kernels do not ask (a kernel file calls nothing, core/types.h): where one must know what stays in
// a cache, its file says for which size, and the planner measures whether that was right.
#pragma once

#include <cstdint>

#include "core/export.h"

namespace fastmnist {

struct Caches {
  std::int64_t l1 = 32 * 1024;  // these where the system does not say
  std::int64_t l2 = 1024 * 1024;
  std::int64_t l3 = 32 * 1024 * 1024;
};

FASTMNIST_API const Caches& caches();

}  // namespace fastmnist
