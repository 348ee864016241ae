// The worker threads themselves; who uses them calls parallel_for (core/threads.h).
//
// Workers spin for some 50 µs after work and sleep then: a sleeping worker costs a futex round trip
// (39 µs measured), a spinning one 0.3 µs. They take over the caller's floating-point mode (MXCSR),
// so flush-to-zero gives the same bits everywhere. A forked child starts with a pool of its own.
// A build without threads (FASTMNIST_THREADS=OFF) leaves pool.cpp out.
#pragma once

#include <cstdint>

#include "core/threads.h"

namespace fastmnist {

// Chunks of [0, items), taken by this thread and up to threads - 1 workers. Returns false, having
// done nothing, where another thread is using the pool.
bool run_on_pool(int threads, std::int64_t items, std::int64_t grain, RangeFunction function,
                 void* context);

}  // namespace fastmnist
