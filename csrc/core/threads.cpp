#include "core/threads.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstring>
#include <string>
#include <system_error>

#include "core/os.h"
#include "core/pool.h"

namespace fastmnist {
namespace {

constexpr int kMaxThreads = 1024;
std::atomic<int> g_requested{0};
std::atomic<int (*)()> g_provider{nullptr};

Result<int> from_environment() {
  const char* text = os::environment("FASTMNIST_NUM_THREADS");
  if (text == nullptr) return 0;
  int count = 0;
  const char* end = text + std::strlen(text);
  const auto [parsed, error] = std::from_chars(text, end, count);
  if (error != std::errc() || parsed != end || count < 1 || count > kMaxThreads)
    return Status::invalid("FASTMNIST_NUM_THREADS", "a number from 1 to 1024",
                           "'" + std::string(text) + "'");
  return count;
}

int available_cpus() {
  static const int cpus = std::min(os::available_cpus(), kMaxThreads);
  return cpus;
}

}  // namespace

Result<int> num_threads() {
  if constexpr (!kThreads) return 1;
  if (const int requested = g_requested.load(std::memory_order_relaxed)) return requested;
  if (Result<int> count = from_environment(); !count.ok() || *count != 0) return count;
  if (const auto provider = g_provider.load(std::memory_order_relaxed))
    return std::clamp(provider(), 1, kMaxThreads);
  return available_cpus();
}

Status set_num_threads(int count) {
  if (count < 0 || count > kMaxThreads)
    return Status::invalid("num_threads", "a number from 1 to 1024, or 0 for the default",
                           std::to_string(count));
  g_requested.store(count, std::memory_order_relaxed);
  return {};
}

void set_num_threads_provider(int (*provider)()) { g_provider.store(provider); }

Status parallel_for(std::int64_t items, std::int64_t grain, RangeFunction function, void* context) {
  if (items <= 0) return {};
  grain = std::max<std::int64_t>(grain, 1);
  const std::int64_t chunks = (items + grain - 1) / grain;
  Result<int> most = chunks == 1 ? Result<int>(1) : num_threads();
  if (!most.ok()) return std::move(most).status();
  const int threads = static_cast<int>(std::min<std::int64_t>(*most, chunks));
  if constexpr (kThreads)
    if (threads > 1 && run_on_pool(threads, items, grain, function, context)) return {};
  function(context, 0, items);
  return {};
}

}  // namespace fastmnist
