// predict_network against run_network and arg_max; and the pool that both take memory from.
#include "runtime/predict.h"

#include <algorithm>
#include <cmath>
#include <thread>
#include <vector>

#include "check.h"
#include "core/threads.h"
#include "support.h"

namespace {

using namespace fastmnist;
using namespace support;

TEST(arg_max_takes_the_first_largest_and_nan) {
  const float nan = std::nanf("");
  const float logits[] = {1, 3, 3, 0, nan, 5, nan, 9, -1, -2, -1, -3};
  std::int64_t index[3];
  arg_max(logits, 3, 4, index);
  CHECK(index[0] == 1 && index[1] == 0 && index[2] == 0);
  arg_max(logits + 5, 1, 3, index);
  CHECK(index[0] == 1);
}

TEST(predict_is_arg_max_of_all_logits) {
  Random random(1);
  for (const std::int64_t outputs : {2, 10, 100}) {
    const Layer layer(random, 30, outputs);
    NetworkSpec spec;
    spec.layers.push_back(layer.canonical());
    std::vector<std::uint64_t> storage(
        static_cast<std::size_t>(check::value(packed_network_bytes(spec))) / 8);
    check::ok(pack_network(spec, std::as_writable_bytes(std::span(storage))));
    const NetworkView view = check::value(view_network(std::as_bytes(std::span(storage))));
    ScratchPool pool;
    ScratchPool logits_pool;
    for (const int threads : {1, 3}) {
      check::ok(set_num_threads(threads));
      for (const std::int64_t rows : {0, 1, 191, 192, 193, 5000}) {
        const std::vector<float> x = reals(random, rows * 30, -2.0f, 2.0f);
        std::vector<float> logits(static_cast<std::size_t>(rows * outputs));
        std::vector<std::int64_t> expected(static_cast<std::size_t>(rows), -1);
        std::vector<std::int64_t> got(static_cast<std::size_t>(rows) + 1, -1);
        const Rows all{RowType::kFloat32, x.data(), rows};
        check::ok(run_network(view, all, logits.data()));
        arg_max(logits.data(), rows, outputs, expected.data());
        check::ok(predict_network(view, all, got.data(), &pool, &logits_pool));
        CHECK(got.back() == -1);
        got.pop_back();
        CHECK(got == expected);
      }
    }
    check::ok(set_num_threads(0));
  }
}

TEST(a_pool_keeps_one_buffer_per_lease) {
  ScratchPool pool;
  const std::byte* small = nullptr;
  {
    const ScratchLease first(&pool, 100);
    small = first.get();
    CHECK(reinterpret_cast<std::uintptr_t>(small) % 64 == 0);
  }
  {
    const ScratchLease again(&pool, 60);
    CHECK(again.get() == small);
    const ScratchLease other(&pool, 60);
    CHECK(other.get() != small);
  }
  const std::byte* large = nullptr;
  {
    const ScratchLease grown(&pool, 100'000);
    large = grown.get();
  }
  const ScratchLease kept(&pool, 1);
  CHECK(kept.get() == large);
}

TEST(a_pool_serves_many_threads) {
  ScratchPool pool;
  std::vector<std::thread> threads;
  std::vector<int> wrong(8, 0);
  for (std::size_t t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 2000; ++i) {
        const std::int64_t size = 64 * (1 + (i + static_cast<int>(t)) % 7);
        const ScratchLease lease(&pool, size);
        const auto mark = static_cast<std::byte>(t);
        std::fill(lease.get(), lease.get() + size, mark);
        std::this_thread::yield();
        for (std::int64_t k = 0; k < size; ++k) wrong[t] += lease.get()[k] != mark;
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (const int count : wrong) CHECK(count == 0);
}

}  // namespace
