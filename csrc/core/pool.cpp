#include "core/pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <new>
#include <thread>

#include "core/os.h"

namespace fastmnist {
namespace {

constexpr auto kSpinTime = std::chrono::microseconds(50);
constexpr int kSpinsBeforeYielding = 1000;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

unsigned floating_point_mode() {
#if defined(__x86_64__)
  return __builtin_ia32_stmxcsr();
#else
  return 0;
#endif
}

void set_floating_point_mode([[maybe_unused]] unsigned mode) {
#if defined(__x86_64__)
  __builtin_ia32_ldmxcsr(mode);
#endif
}

class Pool {
 public:
  // Returns false, having done nothing, where another thread is using the pool.
  bool run(int threads, std::int64_t items, std::int64_t grain, RangeFunction function,
           void* context) {
    std::unique_lock<std::mutex> lock(busy_, std::try_to_lock);
    if (!lock.owns_lock()) return false;
    const int helpers = grow_to(threads - 1);
    function_ = function;
    context_ = context;
    items_ = items;
    grain_ = grain;
    mode_ = floating_point_mode();
    next_.store(0, std::memory_order_relaxed);
    pending_.store(helpers, std::memory_order_relaxed);
    const std::uint64_t last = signal_.load(std::memory_order_relaxed) >> kHelperBits;
    signal_.store(((last + 1) << kHelperBits) | static_cast<std::uint64_t>(helpers),
                  std::memory_order_release);
    signal_.notify_all();
    take_chunks();
    wait_for_helpers();
    return true;
  }

 private:
  // What a worker starts with, and deletes.
  struct Start {
    Pool* pool;
    int id;
    std::uint64_t seen;

    static void* run(void* context) {
      const Start start = *std::unique_ptr<Start>(static_cast<Start*>(context));
      start.pool->work(start.id, start.seen);
      return nullptr;
    }
  };

  // Starts workers up to `wanted`; returns how many there are to use (fewer where the system
  // refuses new threads).
  int grow_to(int wanted) {
    while (started_ < wanted) {
      std::unique_ptr<Start> start(
          new (std::nothrow) Start{this, started_, signal_.load(std::memory_order_relaxed)});
      if (start == nullptr || !os::start_thread(Start::run, start.get())) break;
      static_cast<void>(start.release());
      ++started_;
    }
    return std::min(wanted, started_);
  }

  void take_chunks() {
    for (;;) {
      const std::int64_t begin = next_.fetch_add(grain_, std::memory_order_relaxed);
      if (begin >= items_) return;
      function_(context_, begin, std::min(begin + grain_, items_));
    }
  }

  // Helpers are about to finish, unless they have no CPU: then spinning would only keep it from
  // them.
  void wait_for_helpers() const {
    for (int spins = 0; pending_.load(std::memory_order_acquire) != 0; ++spins)
      if (spins < kSpinsBeforeYielding)
        relax();
      else
        std::this_thread::yield();
  }

  std::uint64_t wait_past(std::uint64_t seen) {
    const auto give_up = std::chrono::steady_clock::now() + kSpinTime;
    for (int spins = 0;; ++spins) {
      const std::uint64_t now = signal_.load(std::memory_order_acquire);
      if (now != seen) return now;
      relax();
      if (spins % 64 == 63 && std::chrono::steady_clock::now() > give_up)
        signal_.wait(seen, std::memory_order_acquire);
    }
  }

  void work(int id, std::uint64_t seen) {
    for (;;) {
      seen = wait_past(seen);
      // Only the helpers that this very signal asks for may touch the job: run() waits for them and
      // for nobody else before it returns.
      if (id >= static_cast<int>(seen & ((1u << kHelperBits) - 1))) continue;
      set_floating_point_mode(mode_);
      take_chunks();
      pending_.fetch_sub(1, std::memory_order_release);
    }
  }

  std::mutex busy_;
  int started_ = 0;
  // Number of the job, and how many helpers it asks for in the low bits: one word, so that a worker
  // that wakes late can't mix one job's number with another's helpers.
  static constexpr int kHelperBits = 16;
  std::atomic<std::uint64_t> signal_{0};
  std::atomic<int> pending_{0};
  std::atomic<std::int64_t> next_{0};
  RangeFunction function_ = nullptr;
  void* context_ = nullptr;
  std::int64_t items_ = 0;
  std::int64_t grain_ = 1;
  unsigned mode_ = 0;
};

// Never destroyed: workers outlive static destructors. Replaced, not repaired, in a forked child,
// where the parent's workers do not exist.
std::atomic<Pool*> g_pool{nullptr};

Pool& pool() {
  static std::once_flag registered;
  std::call_once(registered, [] {
    g_pool.store(new Pool);
    os::around_fork(nullptr, nullptr, [] { g_pool.store(new Pool); });
  });
  return *g_pool.load(std::memory_order_acquire);
}

}  // namespace

bool run_on_pool(int threads, std::int64_t items, std::int64_t grain, RangeFunction function,
                 void* context) {
  return pool().run(threads, items, grain, function, context);
}

}  // namespace fastmnist
