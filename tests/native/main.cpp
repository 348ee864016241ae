#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>

#include "check.h"

// Runs all cases, or those whose names contain the first argument.
int main(int argc, char** argv) {
  int passed = 0;
  int failed = 0;
  for (const check::Case& test : check::cases()) {
    if (argc > 1 && std::strstr(test.name, argv[1]) == nullptr) continue;
    const auto start = std::chrono::steady_clock::now();
    std::string error;
    try {
      test.run();
    } catch (const std::exception& e) {
      error = e.what();
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    std::printf("%-4s %s (%.2f s)%s%s\n", error.empty() ? "ok" : "FAIL", test.name, took.count(),
                error.empty() ? "" : ": ", error.c_str());
    std::fflush(stdout);
    ++(error.empty() ? passed : failed);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 && passed > 0 ? 0 : 1;
}
