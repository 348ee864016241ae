#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>

#include "check.h"
#include "core/cpu.h"
#include "kernels/tables.h"

namespace {

// Whether a case is asked for: all are, or those whose names contain an argument; never those whose
// names contain one that begins with a minus.
bool is_wanted(const char* name, int argc, char** argv) {
  bool named = false;
  bool found = false;
  for (int i = 1; i < argc; ++i) {
    const bool without = argv[i][0] == '-';
    const bool hit = std::strstr(name, argv[i] + (without ? 1 : 0)) != nullptr;
    if (without && hit) return false;
    named = named || !without;
    found = found || (!without && hit);
  }
  return found || !named;
}

// Which kernels these tests are about: what does not run is not tested.
void print_sets() {
  for (const fastmnist::Rung& rung : fastmnist::ladder()) {
    const bool capped = rung.refusal.starts_with("capped");
    if (!rung.refusal.empty() && !capped)
      std::printf("%-12s NOT TESTED: %s\n", rung.name, rung.refusal.c_str());
    else
      std::printf("%-12s %s, %d linear kernels\n", rung.name,
                  fastmnist::kEmulated && std::strcmp(rung.name, "scalar") != 0 ? "by emulation"
                                                                                : "natively",
                  rung.kernels->linear_count);
  }
}

}  // namespace

int main(int argc, char** argv) {
  print_sets();
  int passed = 0;
  int failed = 0;
  for (const check::Case& test : check::cases()) {
    if (!is_wanted(test.name, argc, argv)) continue;
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
