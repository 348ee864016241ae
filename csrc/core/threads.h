// One pool of worker threads for everything in the process that uses libfastmnist.
//
// parallel_for splits [0, items) into `grain`-sized chunks that the caller and the workers take
// from one counter. Workers spin for some 50 µs after work and sleep then: a sleeping worker costs
// a futex round trip (39 µs measured), a spinning one 0.3 µs. While another thread uses the pool,
// a call simply runs on its own thread, so that many threads may compute at once. Workers take
// over the caller's floating-point mode (MXCSR), so flush-to-zero gives the same bits everywhere.
// A forked child starts with a pool of its own.
#pragma once

#include <cstdint>

#include "core/export.h"

namespace fastmnist {

// What set_num_threads asked for, else FASTMNIST_NUM_THREADS, else what the provider says (torch's
// own number, registered by _torch), else the CPUs that the process may use.
FASTMNIST_API int num_threads();

// 1..1024, or 0 to return to the defaults above. Throws InvalidArgument.
FASTMNIST_API void set_num_threads(int count);

FASTMNIST_API void set_num_threads_provider(int (*provider)());

using RangeFunction = void (*)(void* context, std::int64_t begin, std::int64_t end);

// `function` must not throw. Runs inline where there is one chunk, one thread or no free pool.
FASTMNIST_API void parallel_for(std::int64_t items, std::int64_t grain, RangeFunction function,
                                void* context);

}  // namespace fastmnist
