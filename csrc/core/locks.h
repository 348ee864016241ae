// std::mutex; nothing in a build without threads, which needs no locks.
#pragma once

#include <mutex>

namespace fastmnist {

#if defined(FASTMNIST_NO_THREADS)
struct Mutex {
  void lock() {}
  bool try_lock() { return true; }
  void unlock() {}
};
#else
using Mutex = std::mutex;
#endif

}  // namespace fastmnist
