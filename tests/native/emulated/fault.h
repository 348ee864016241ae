// Where a processor would raise an exception, emulation ends the process and says why.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace fastmnist::emulated {

[[noreturn]] inline void fault(const char* what) {
  std::fprintf(stderr, "emulated instruction: %s\n", what);
  std::abort();
}

}  // namespace fastmnist::emulated
