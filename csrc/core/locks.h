// std::mutex; in a build without threads, where nobody is to be kept out, nothing.
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
