#include "core/caches.h"

#include "core/os.h"

namespace fastmnist {

const Caches& caches() {
  static const Caches read = [] {
    constexpr std::int64_t kLeast = 16 * 1024;  // less is no cache, but a mistake
    Caches all;
    std::int64_t* const sizes[] = {&all.l1, &all.l2, &all.l3};
    for (int level = 1; level <= 3; ++level)
      if (const std::int64_t stated = os::cache_bytes(level); stated >= kLeast)
        *sizes[level - 1] = stated;
    return all;
  }();
  return read;
}

}  // namespace fastmnist
