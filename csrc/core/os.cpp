#include "core/os.h"

#include "core/system.h"

#if defined(FASTMNIST_POSIX)
#include <unistd.h>
#endif
#if defined(FASTMNIST_POSIX_THREADS)
#include <pthread.h>
#endif
#if defined(FASTMNIST_LINUX)
#include <sched.h>
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace fastmnist::os {

const char* environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : nullptr;
}

// As the XDG base directory specification and Apple's guidelines have it.
std::string user_cache_folder() {
#if defined(FASTMNIST_POSIX)
  const char* home = environment("HOME");
  const std::string at = home != nullptr && *home == '/' ? home : "";
#if defined(FASTMNIST_LINUX)
  const char* told = environment("XDG_CACHE_HOME");
  if (told != nullptr) return *told == '/' ? told : "";
  return at.empty() ? at : at + "/.cache";
#else
  return at.empty() ? at : at + "/Library/Caches";
#endif
#else
  return "";
#endif
}

#if defined(FASTMNIST_LINUX)

namespace {

// One line of one of the small files that Linux describes itself by; "" where it cannot be read.
struct Line {
  char text[64] = "";

  explicit Line(const char* path) {
    std::FILE* file = std::fopen(path, "re");
    if (file == nullptr) return;
    if (std::fgets(text, sizeof text, file) == nullptr) text[0] = '\0';
    std::fclose(file);
  }
};

int cpus_of_affinity() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  return static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));  // more CPUs than the mask has bits
}

}  // namespace

int available_cpus() {
  const int cpus = std::max(1, cpus_of_affinity());
  double quota = 0;  // in each period; "max" where there is none
  double period = 0;
  const Line line("/sys/fs/cgroup/cpu.max");
  if (std::sscanf(line.text, "%lf %lf", &quota, &period) != 2 || !(period > 0)) return cpus;
  const double share = std::clamp(quota / period + 0.5, 1.0, static_cast<double>(cpus));
  return static_cast<int>(share);
}

// "48K", "2048K", "32M" as Linux writes it.
std::int64_t cache_bytes(int level) {
  constexpr int kMostCaches = 8;
  char path[96];
  const auto read = [&path](int cache, const char* what) {
    std::snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", cache, what);
    return Line(path);
  };
  for (int i = 0; i < kMostCaches; ++i) {
    if (std::atoi(read(i, "level").text) != level) continue;
    if (std::strncmp(read(i, "type").text, "Instruction", 11) == 0) continue;
    long long size = 0;
    char unit = ' ';
    const Line line = read(i, "size");
    if (std::sscanf(line.text, "%lld%c", &size, &unit) < 1 || size < 0 || size > (1 << 30))
      continue;
    return size * (unit == 'K' ? 1024 : unit == 'M' ? 1024 * 1024 : 1);
  }
  return 0;
}

void ask_for_huge_pages(void* memory, std::int64_t bytes) {
  madvise(memory, static_cast<std::size_t>(bytes), MADV_HUGEPAGE);  // may fail
}

#elif defined(FASTMNIST_POSIX)

int available_cpus() { return std::max(1, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN))); }

std::int64_t cache_bytes(int) { return 0; }

void ask_for_huge_pages(void*, std::int64_t) {}

#endif

#if defined(FASTMNIST_POSIX)

std::int64_t physical_memory() {
  return std::max(0L, sysconf(_SC_PHYS_PAGES)) * std::max(0L, sysconf(_SC_PAGESIZE));
}

#else

int available_cpus() { return 1; }
std::int64_t cache_bytes(int) { return 0; }
std::int64_t physical_memory() { return 0; }
void ask_for_huge_pages(void*, std::int64_t) {}

#endif

#if defined(FASTMNIST_POSIX_THREADS)

bool start_thread(void* (*function)(void*), void* context) {
  pthread_t thread;
  return pthread_create(&thread, nullptr, function, context) == 0 && pthread_detach(thread) == 0;
}

void around_fork(void (*before)(), void (*in_parent)(), void (*in_child)()) {
  pthread_atfork(before, in_parent, in_child);
}

#else

bool start_thread(void* (*)(void*), void*) { return false; }
void around_fork(void (*)(), void (*)(), void (*)()) {}

#endif

}  // namespace fastmnist::os
