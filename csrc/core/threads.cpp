#include "core/threads.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstring>
#include <string>
#include <system_error>

#include "core/errors.h"
#include "core/os.h"
#include "core/pool.h"

namespace fastmnist {
namespace {

constexpr int kMaxThreads = 1024;
std::atomic<int> g_requested{0};
std::atomic<int (*)()> g_provider{nullptr};

int from_environment() {
  const char* text = os::environment("FASTMNIST_NUM_THREADS");
  if (text == nullptr) return 0;
  int count = 0;
  const char* end = text + std::strlen(text);
  const auto [parsed, error] = std::from_chars(text, end, count);
  if (error != std::errc() || parsed != end || count < 1 || count > kMaxThreads)
    invalid("FASTMNIST_NUM_THREADS", "a number from 1 to 1024", "'" + std::string(text) + "'");
  return count;
}

int available_cpus() {
  static const int cpus = std::min(os::available_cpus(), kMaxThreads);
  return cpus;
}

}  // namespace

int num_threads() {
  if constexpr (!kThreads) return 1;
  if (const int requested = g_requested.load(std::memory_order_relaxed)) return requested;
  if (const int count = from_environment()) return count;
  if (const auto provider = g_provider.load(std::memory_order_relaxed))
    return std::clamp(provider(), 1, kMaxThreads);
  return available_cpus();
}

void set_num_threads(int count) {
  if (count < 0 || count > kMaxThreads)
    invalid("num_threads", "a number from 1 to 1024, or 0 for the default", std::to_string(count));
  g_requested.store(count, std::memory_order_relaxed);
}

void set_num_threads_provider(int (*provider)()) { g_provider.store(provider); }

void parallel_for(std::int64_t items, std::int64_t grain, RangeFunction function, void* context) {
  if (items <= 0) return;
  grain = std::max<std::int64_t>(grain, 1);
  const std::int64_t chunks = (items + grain - 1) / grain;
  const int threads =
      chunks == 1 ? 1 : static_cast<int>(std::min<std::int64_t>(num_threads(), chunks));
  if constexpr (kThreads)
    if (threads > 1 && run_on_pool(threads, items, grain, function, context)) return;
  function(context, 0, items);
}

}  // namespace fastmnist
