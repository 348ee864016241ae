// The thread pool: every item once, whoever calls, however often, before and after fork.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <numeric>
#include <thread>

#include "check.h"
#include "core/threads.h"
#include "support.h"

#if defined(__SANITIZE_THREAD__)
#define FASTMNIST_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FASTMNIST_TSAN 1
#endif
#endif

namespace {

using namespace fastmnist;

struct Threads {
  explicit Threads(int count) { check::ok(set_num_threads(count)); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  ~Threads() { static_cast<void>(set_num_threads(0)); }
};

// Counts how often every item is visited, without locks: items are disjoint between chunks.
struct Visits {
  std::vector<int> count;
  explicit Visits(std::int64_t items) : count(static_cast<std::size_t>(items)) {}
  static void visit(void* context, std::int64_t begin, std::int64_t end) {
    auto& self = *static_cast<Visits*>(context);
    for (std::int64_t i = begin; i < end; ++i) ++self.count[static_cast<std::size_t>(i)];
  }
  bool all(int times) const {
    for (const int c : count)
      if (c != times) return false;
    return true;
  }
};

int threads() { return check::value(num_threads()); }

TEST(every_item_once) {
  for (const int threads : {1, 2, 3, 7, 32}) {
    const Threads set(threads);
    for (const std::int64_t items : {0, 1, 2, 7, 64, 1000, 4097})
      for (const std::int64_t grain : {-1, 0, 1, 3, 64, 5000}) {
        Visits visits(items);
        check::ok(parallel_for(items, grain, Visits::visit, &visits));
        CHECK_IN(std::to_string(threads) + " threads, " + std::to_string(items) + " items",
                 visits.all(1));
      }
  }
  Visits none(0);
  check::ok(parallel_for(-5, 1, Visits::visit, &none));
}

TEST(changing_thread_counts) {
  for (int round = 0; round < 2000; ++round) {
    const Threads set(1 + round * 7 % 9);
    Visits visits(16);
    check::ok(parallel_for(16, 1, Visits::visit, &visits));
    CHECK(visits.all(1));
  }
}

// Sums 0..items-1 from inside a chunk of another job.
TEST(nested_calls_run_inline) {
  const Threads set(4);
  std::atomic<std::int64_t> total{0};
  const auto outer = [](void* context, std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      check::ok(parallel_for(
          100, 10,
          [](void* sum, std::int64_t b, std::int64_t e) {
            for (std::int64_t j = b; j < e; ++j) *static_cast<std::atomic<std::int64_t>*>(sum) += j;
          },
          context));
  };
  for (int round = 0; round < 50; ++round) check::ok(parallel_for(20, 1, outer, &total));
  CHECK(total == 50 * 20 * 4950);
}

TEST(many_tiny_jobs_from_four_threads) {
  const Threads set(3);
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 4; ++t)
    callers.emplace_back([&wrong] {
      for (int job = 0; job < 5000; ++job) {
        Visits visits(4);
        check::ok(parallel_for(4, 1, Visits::visit, &visits));
        if (!visits.all(1)) ++wrong;
      }
    });
  for (std::thread& caller : callers) caller.join();
  CHECK(wrong == 0);
}

TEST(jobs_after_the_workers_slept) {
  const Threads set(4);
  for (int round = 0; round < 100; ++round) {
    std::this_thread::sleep_for(std::chrono::microseconds(round * 17 % 400));
    Visits visits(8);
    check::ok(parallel_for(8, 1, Visits::visit, &visits));
    CHECK(visits.all(1));
  }
}

TEST(thread_counts_are_checked) {
  CHECK(set_num_threads(-1).text() ==
        "num_threads: expected a number from 1 to 1024, or 0 for the default, got -1");
  CHECK(!set_num_threads(1025).ok());
  check::ok(set_num_threads(5));
  CHECK(threads() == (kThreads ? 5 : 1));
  check::ok(set_num_threads(0));
  if constexpr (!kThreads) return;
  ::setenv("FASTMNIST_NUM_THREADS", "3", 1);
  CHECK(threads() == 3);
  for (const char* nonsense : {"0", "-1", "1025", "2x", " 2", "two", "99999999999"}) {
    ::setenv("FASTMNIST_NUM_THREADS", nonsense, 1);
    CHECK_IN(nonsense, num_threads().status().text() ==
                           "FASTMNIST_NUM_THREADS: expected a number from 1 to 1024, got '" +
                               std::string(nonsense) + "'");
    Visits visits(8);
    CHECK_IN(nonsense, !parallel_for(8, 1, Visits::visit, &visits).ok() && visits.all(0));
    check::ok(parallel_for(8, 8, Visits::visit, &visits));  // one chunk asks for no threads
    CHECK_IN(nonsense, visits.all(1));
  }
  ::unsetenv("FASTMNIST_NUM_THREADS");
  set_num_threads_provider([] { return 4; });
  CHECK(threads() == 4);
  set_num_threads_provider([] { return -7; });
  CHECK(threads() == 1);
  set_num_threads_provider(nullptr);
  CHECK(threads() >= 1);
}

#if defined(__x86_64__)
// Workers compute in the caller's floating-point mode, and it changes from job to job.
TEST(workers_take_the_callers_mode) {
  const Threads set(4);
  const unsigned before = __builtin_ia32_stmxcsr();
  for (int round = 0; round < 200; ++round) {
    const unsigned flush = round % 2 == 0 ? 0x8040u : 0u;
    __builtin_ia32_ldmxcsr((before & ~0x8040u) | flush);
    struct Modes {
      unsigned flush;
      std::atomic<int> wrong{0};
    } modes{flush};
    check::ok(parallel_for(
        64, 1,
        [](void* context, std::int64_t, std::int64_t) {
          auto& self = *static_cast<Modes*>(context);
          if ((__builtin_ia32_stmxcsr() & 0x8040u) != self.flush) ++self.wrong;
        },
        &modes));
    __builtin_ia32_ldmxcsr(before);
    CHECK(modes.wrong == 0);
  }
}
#endif

#if !defined(FASTMNIST_TSAN)  // which does not support threads in a forked child
bool child_works() {
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);  // a hang ends as a signal
    Visits visits(1000);
    for (int job = 0; job < 100; ++job) check::ok(parallel_for(1000, 10, Visits::visit, &visits));
    _exit(visits.all(100) ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(forked_children_start_clean) {
  const Threads set(3);
  for (int round = 0; round < 10; ++round) {
    Visits visits(1000);
    check::ok(parallel_for(1000, 10, Visits::visit, &visits));
    CHECK(visits.all(1));
    CHECK(child_works());
  }
}

TEST(fork_while_another_thread_computes) {
  const Threads set(3);
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::thread busy([&] {
    while (!stop) {
      Visits visits(64);
      check::ok(parallel_for(64, 1, Visits::visit, &visits));
      if (!visits.all(1)) ++wrong;
    }
  });
  bool works = true;
  for (int round = 0; round < 20; ++round) works = works && child_works();
  stop = true;
  busy.join();
  CHECK(works);
  CHECK(wrong == 0);
}
#endif

}  // namespace
