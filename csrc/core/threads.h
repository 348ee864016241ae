// One pool of worker threads for everything in the process that uses libfastmnist.
//
// parallel_for splits [0, items) into `grain`-sized chunks that the caller and the workers (pool.h)
// take from one counter. While another thread uses the pool, a call simply runs on its own thread,
// so that many threads may compute at once. In a build without threads everything runs inline.
#pragma once

#include <cstdint>

#include "core/export.h"
#include "core/status.h"

namespace fastmnist {

// Whether this build can use more threads than its callers'.
#if defined(FASTMNIST_NO_THREADS)
inline constexpr bool kThreads = false;
#else
inline constexpr bool kThreads = true;
#endif

// What set_num_threads asked for, else FASTMNIST_NUM_THREADS, else what the provider says (torch's
// own number, registered by _torch), else the CPUs that the process may use. Without threads: 1.
FASTMNIST_API Result<int> num_threads();

// 1..1024, or 0 to return to the defaults above; anything else is refused.
FASTMNIST_API Status set_num_threads(int count);

FASTMNIST_API void set_num_threads_provider(int (*provider)());

using RangeFunction = void (*)(void* context, std::int64_t begin, std::int64_t end);

// `function` must not throw. Runs inline where there is one chunk, one thread or no free pool. Runs
// nothing where num_threads() is refused.
FASTMNIST_API Status parallel_for(std::int64_t items, std::int64_t grain, RangeFunction function,
                                  void* context);

}  // namespace fastmnist
