// What the operating system is asked, with one or without (FASTMNIST_NO_OS).
#include "core/os.h"

#include <cstdlib>
#include <string>
#include <vector>

#include "check.h"
#include "core/caches.h"

namespace {

using namespace fastmnist;

TEST(there_is_a_cpu) { CHECK(os::available_cpus() >= 1); }

TEST(caches_are_those_stated_or_usual) {
  for (const int level : {-1, 0, 9}) CHECK(os::cache_bytes(level) == 0);
  const Caches usual;
  const auto check = [](int level, std::int64_t kept, std::int64_t instead) {
    const std::int64_t stated = os::cache_bytes(level);
    CHECK(kept == stated || (kept == instead && stated < 16 * 1024));
  };
  check(1, caches().l1, usual.l1);
  check(2, caches().l2, usual.l2);
  check(3, caches().l3, usual.l3);
}

TEST(variables_that_are_empty_are_not_set) {
  ::setenv("FASTMNIST_TEST", "", 1);
  CHECK(os::environment("FASTMNIST_TEST") == nullptr);
  ::setenv("FASTMNIST_TEST", "x", 1);
  CHECK(std::string(os::environment("FASTMNIST_TEST")) == "x");
  ::unsetenv("FASTMNIST_TEST");
  CHECK(os::environment("FASTMNIST_TEST") == nullptr);
}

TEST(huge_pages_are_only_a_hint) {
  std::vector<char> memory(10'000, 'x');  // neither aligned nor large enough
  os::ask_for_huge_pages(memory.data(), 10'000);
  os::ask_for_huge_pages(nullptr, 0);
  CHECK(memory == std::vector<char>(10'000, 'x'));
}

}  // namespace
