#include "runtime/limits.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "core/caches.h"
#include "core/cpu.h"
#include "core/os.h"
#include "kernels/peak.h"
#include "kernels/tables.h"

namespace fastmnist {

namespace {

constexpr std::int64_t kMegabyte = 1024 * 1024;
// Of memory where the system does not say how much there is.
constexpr std::int64_t kUsualMemory = 4096 * kMegabyte;

// ---- which probe --------------------------------------------------------------------------------

// A probe with every function: what a set lacks is that of the next one below it.
Result<PeakProbe> probe_of(std::string_view isa) {
  Result<const KernelTable*> kernels = kernels_named(isa);
  if (!kernels.ok()) return std::move(kernels).status();
  PeakProbe probe = *(*kernels)->peak;
  bool below = false;
  for (const Rung& rung : ladder()) {
    if (below && rung.kernels != nullptr) {
      const PeakProbe& next = *rung.kernels->peak;
      if (probe.float_products == nullptr) probe.float_products = next.float_products;
      if (probe.read == nullptr) probe.read = next.read;
    }
    below = below || isa == rung.name;
  }
  return probe;
}

// ---- sizes --------------------------------------------------------------------------------------

std::int64_t whole_steps(std::int64_t bytes) {
  return std::max(bytes / kReadGranularity, std::int64_t{1}) * kReadGranularity;
}

// ---- memory -------------------------------------------------------------------------------------

// Random bytes, on huge pages where the system gives them: no probe should wait for page tables.
class RandomBytes {
 public:
  explicit RandomBytes(std::int64_t bytes)
      : data_(static_cast<std::byte*>(
            ::operator new(static_cast<std::size_t>(bytes), kAlignment, std::nothrow))) {
    if (data_ == nullptr) return;
    os::ask_for_huge_pages(data_.get(), bytes);
    std::uint64_t state = 1;
    for (std::int64_t i = 0; i + 8 <= bytes; i += 8) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      const std::uint64_t mixed = state ^ (state >> 29);
      std::memcpy(data_.get() + i, &mixed, 8);
    }
  }
  const std::byte* data() const { return data_.get(); }  // nullptr: no such memory

 private:
  static constexpr std::align_val_t kAlignment{2 * kMegabyte};
  struct Free {
    void operator()(std::byte* memory) const { ::operator delete(memory, kAlignment); }
  };
  std::unique_ptr<std::byte, Free> data_;
};

// ---- times --------------------------------------------------------------------------------------

template <typename Work>
double seconds(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  return std::max(took.count(), 1e-9);
}

// Units per second of work(rounds), which returns how many units it did: the best of `repeats`
// runs of a millisecond or more.
template <typename Work>
double best_rate(const Work& work, int repeats) {
  constexpr double kLongEnough = 1e-3;
  double best = 0;
  for (std::int64_t rounds = 1; repeats > 0 && rounds < (std::int64_t{1} << 40);) {
    std::int64_t units = 0;
    const double took = seconds([&] { units = work(rounds); });
    if (took < kLongEnough) {
      rounds *= 2;
      continue;
    }
    best = std::max(best, static_cast<double>(units) / took);
    --repeats;
  }
  return best;
}

constexpr ReadPattern kPatterns[] = {{1, 0}, {1, 1024}, {4, 0}, {4, 512}, {8, 0}};

double best_read(const PeakProbe& probe, const std::byte* data, std::int64_t bytes, int repeats) {
  double best = 0;
  std::uint64_t sum = 0;
  for (const ReadPattern pattern : kPatterns) {
    const auto work = [&](std::int64_t rounds) {
      for (std::int64_t r = 0; r < rounds; ++r) sum ^= probe.read(data, bytes, pattern);
      return rounds * bytes;
    };
    best = std::max(best, best_rate(work, repeats));
  }
  __asm__ volatile("" : : "r"(sum));
  return best;
}

}  // namespace

Result<Limits> measure_limits(std::string_view isa) {
  Result<PeakProbe> found = probe_of(isa);
  if (!found.ok()) return std::move(found).status();
  const PeakProbe& probe = *found;
  Limits limits{};
  limits.l1.level_bytes = caches().l1;
  limits.l2.level_bytes = caches().l2;
  limits.l3.level_bytes = caches().l3;
  limits.l1.buffer_bytes = whole_steps(limits.l1.level_bytes / 2);
  limits.l2.buffer_bytes = whole_steps(limits.l2.level_bytes / 2);
  limits.l3.buffer_bytes = whole_steps(
      std::min(std::max(8 * limits.l2.level_bytes, 16 * kMegabyte), limits.l3.level_bytes / 2));
  const std::int64_t stated = os::physical_memory();
  const std::int64_t memory = stated > 0 ? stated : kUsualMemory;
  limits.memory.buffer_bytes = whole_steps(std::max(
      std::min({256 * kMegabyte, 4 * limits.l3.level_bytes, memory / 8}), limits.l3.buffer_bytes));

  const RandomBytes random(limits.memory.buffer_bytes);
  if (random.data() == nullptr) return Status::out_of_memory();
  alignas(64) static constexpr std::byte kZeros[kPeakOperandBytes] = {};
  const auto products = [&](const std::byte* operands) {
    return best_rate([&](std::int64_t rounds) { return probe.products(operands, rounds); }, 7);
  };
  limits.products_per_second = products(kZeros);
  limits.random_products_per_second = products(random.data());
  limits.float_products_per_second = best_rate(probe.float_products, 7);
  for (ReadLimit* level : {&limits.l1, &limits.l2, &limits.l3})
    level->bytes_per_second = best_read(probe, random.data(), level->buffer_bytes, 3);
  limits.memory.bytes_per_second = best_read(probe, random.data(), limits.memory.buffer_bytes, 1);
  return limits;
}

}  // namespace fastmnist
