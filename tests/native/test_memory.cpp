// What the library does where there is no memory for scratch buffers: it says so, and works again
// where there is.
#include <atomic>
#include <cstdlib>
#include <new>
#include <vector>

#include "check.h"
#include "core/threads.h"
#include "runtime/limits.h"
#include "runtime/linear.h"
#include "runtime/plan.h"
#include "runtime/planner.h"
#include "runtime/predict.h"
#include "support.h"

namespace {
std::atomic<bool> g_is_full{false};
}

// Of the whole program, the library's calls included. Memory for what is small, which is not
// aligned, does not run out.
void* operator new(std::size_t bytes, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  const auto to = static_cast<std::size_t>(alignment);
  return g_is_full ? nullptr : std::aligned_alloc(to, (bytes + to - 1) / to * to);
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  void* memory = ::operator new(bytes, alignment, std::nothrow);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace {

using namespace fastmnist;
using namespace support;

struct FullMemory {
  FullMemory() { g_is_full = true; }
  FullMemory(const FullMemory&) = delete;
  FullMemory& operator=(const FullMemory&) = delete;
  ~FullMemory() { g_is_full = false; }
};

struct Network {
  std::vector<Layer> layers;
  std::vector<std::uint64_t> storage;
  NetworkView view;

  explicit Network(Random& random) {
    layers.emplace_back(random, 30, 20);
    NetworkSpec spec;
    spec.layers.push_back(layers[0].canonical());
    spec.pixels = PixelKind::kCodes;
    storage.resize(static_cast<std::size_t>(check::value(packed_network_bytes(spec))) / 8);
    check::ok(pack_network(spec, std::as_writable_bytes(std::span(storage))));
    view = check::value(view_network(std::as_bytes(std::span(storage))));
  }
};

TEST(a_full_memory_is_a_status) {
  Random random(3);
  Network network(random);
  const std::vector<std::uint8_t> x = integers<std::uint8_t>(random, 7 * 30, 0, 255);
  const Rows rows{RowType::kPixels, x.data(), 7};
  std::vector<float> logits(7 * 20, -1.0f);
  std::vector<std::int64_t> index(7, -1);
  ScratchPool pool;
  ScratchPool logits_pool;
  const std::vector<float> untouched = logits;
  {
    const FullMemory full;
    CHECK(!ScratchLease(&pool, 100).ok() && !ScratchLease(nullptr, 100).ok());
    const Status run = run_network(network.view, rows, logits.data(), &pool);
    CHECK(run.is_out_of_memory() && run.text() == "out of memory");
    CHECK(
        predict_network(network.view, rows, index.data(), &pool, &logits_pool).is_out_of_memory());
    CHECK(measure_limits("scalar").status().is_out_of_memory());
    const KernelTable& kernels = *check::value(active_kernels());
    Measurements known;
    for (const int threads : {1, 2})
      CHECK(measure_layer(kernels, network.view, 0, threads).status().is_out_of_memory());
    const auto bytes = std::as_writable_bytes(std::span(network.storage));
    CHECK(plan_network(kernels, bytes, known, 1).is_out_of_memory() && known.added() == 0);
  }
  CHECK(logits == untouched && index == std::vector<std::int64_t>(7, -1));
  check::ok(run_network(network.view, rows, logits.data(), &pool));
  check::ok(predict_network(network.view, rows, index.data(), &pool, &logits_pool));
  {
    const FullMemory full;  // the pools have what these calls need
    check::ok(predict_network(network.view, rows, index.data(), &pool, &logits_pool));
  }
  CHECK(index[0] >= 0 && logits != untouched);
}

// Of a layer by itself each thread takes memory of its own.
TEST(a_layer_alone_says_what_its_threads_lacked) {
  Random random(4);
  const Network network(random);
  const std::vector<std::uint8_t> x = integers<std::uint8_t>(random, 5 * 30, 0, 255);
  std::vector<float> y(5 * 20);
  const KernelTable& kernels = *check::value(active_kernels());
  const LinearKernel& kernel =
      PlanView(kernels, network.view).kernel(0, shape_of(network.view, 0, 5, false));
  LinearArgs args = make_args(network.view, 0, kernel.form,
                              {x.data(), 30, x.data(), x.data() + x.size()}, 5, y.data(), 20);
  std::vector<ScratchLease*> taken;  // whatever the shared pool keeps
  for (int i = 0; i < 8; ++i) taken.push_back(new ScratchLease(shared_scratch(), 64));
  {
    const FullMemory full;
    CHECK(run_single_linear(kernel, LinearOutput::kFloats, args).is_out_of_memory());
  }
  for (ScratchLease* lease : taken) delete lease;
  check::ok(run_single_linear(kernel, LinearOutput::kFloats, args));
}

}  // namespace
