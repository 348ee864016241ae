// What the native tests share: guarded memory, random layers, comparison by bits.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <random>
#include <span>
#include <vector>

#include "check.h"
#include "core/arithmetic.h"
#include "core/cpu.h"
#include "kernels/reference.h"
#include "kernels/tables.h"
#include "pack/layouts.h"

namespace support {

enum class Edge { kFirst, kLast };  // which end of the buffer touches an unreadable page

// `count` values of T: any access before the first (Edge::kFirst) or after the last one faults.
template <typename T>
class Guarded {
 public:
  Guarded(std::size_t count, Edge edge) : count_(count) {
    const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t bytes = count * sizeof(T);
    const std::size_t body = (bytes + page - 1) / page * page;
    mapped_ = body + 2 * page;
    void* map = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) throw std::bad_alloc();
    base_ = static_cast<std::byte*>(map);
    if (body > 0 && mprotect(base_ + page, body, PROT_READ | PROT_WRITE) != 0)
      throw std::bad_alloc();
    data_ = reinterpret_cast<T*>(base_ + page + (edge == Edge::kLast ? body - bytes : 0));
  }
  Guarded(std::span<const T> values, Edge edge) : Guarded(values.size(), edge) {
    if (!values.empty()) std::memcpy(data_, values.data(), values.size_bytes());
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded() { munmap(base_, mapped_); }

  T* data() const { return data_; }
  std::span<T> values() const { return {data_, count_}; }

 private:
  std::size_t count_;
  std::size_t mapped_ = 0;
  std::byte* base_ = nullptr;
  T* data_ = nullptr;
};

inline bool same_bits(float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return std::memcmp(&a, &b, sizeof a) == 0;
}

inline bool same_bits(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!same_bits(a[i], b[i])) return false;
  return true;
}

using Random = std::mt19937_64;

inline std::int64_t integer(Random& random, std::int64_t lo, std::int64_t hi) {
  return std::uniform_int_distribution<std::int64_t>(lo, hi)(random);
}

inline float real(Random& random, float lo, float hi) {
  return std::uniform_real_distribution<float>(lo, hi)(random);
}

template <typename T>
std::vector<T> integers(Random& random, std::int64_t count, int lo, int hi) {
  std::vector<T> values(static_cast<std::size_t>(count));
  for (T& v : values) v = static_cast<T>(integer(random, lo, hi));
  return values;
}

inline std::vector<float> reals(Random& random, std::int64_t count, float lo, float hi) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& v : values) v = real(random, lo, hi);
  return values;
}

// A layer that owns its arrays.
struct Layer {
  std::int64_t inputs;
  std::int64_t outputs;
  std::vector<std::int8_t> weight;
  std::vector<float> scale;
  std::vector<float> bias;
  fastmnist::Clamp clamp;
  fastmnist::Quantizer x_quantizer;

  Layer(Random& random, std::int64_t k, std::int64_t n)
      : inputs(k),
        outputs(n),
        weight(integers<std::int8_t>(random, k * n, -128, 127)),
        scale(reals(random, n, 1e-4f, 2e-2f)),
        bias(integer(random, 0, 1) != 0 ? reals(random, n, -3.0f, 3.0f) : std::vector<float>()),
        clamp{-std::numeric_limits<float>::infinity(), std::numeric_limits<float>::infinity()},
        x_quantizer(fastmnist::make_quantizer(real(random, 1e-3f, 0.1f),
                                              static_cast<std::int32_t>(integer(random, 0, 255)))) {
    const std::int64_t kind = integer(random, 0, 2);
    if (kind > 0) clamp.lo = 0.0f;
    if (kind > 1) clamp.hi = 6.0f;
  }

  // Draws the weights anew, of at most 16 values with 0 among them (core/layouts.h, "nibbles").
  void draw_of_few_values(Random& random) {
    std::vector<std::int8_t> values = integers<std::int8_t>(random, 16, -128, 127);
    values[0] = 0;
    for (std::int8_t& w : weight) w = values[static_cast<std::size_t>(integer(random, 0, 15))];
  }
  // Or none above `most` in magnitude.
  void draw_up_to(Random& random, int most) {
    weight = integers<std::int8_t>(random, inputs * outputs, -most, most);
  }
  int most_weight() const {
    int most = 0;
    for (const std::int8_t w : weight) most = std::max(most, std::abs(static_cast<int>(w)));
    return most;
  }

  const float* bias_or_null() const { return bias.empty() ? nullptr : bias.data(); }
  fastmnist::CanonicalLayer canonical() const {
    return {weight.data(), scale.data(), bias_or_null(), inputs, outputs, clamp, x_quantizer};
  }
  fastmnist::reference::Linear reference() const {
    return {weight.data(), scale.data(), bias_or_null(), inputs, outputs, clamp};
  }
};

// A layer's weights in the form that a kernel reads, in guarded memory.
class PackedWeights {
 public:
  PackedWeights(const Layer& layer, fastmnist::WeightForm form, Edge edge)
      : size_(fastmnist::size_in(form, layer.canonical())),
        section_(static_cast<std::size_t>(fastmnist::bytes_of(size_, layer.inputs, layer.outputs)),
                 edge) {
    const fastmnist::WeightLayout& layout = fastmnist::layout_of(form);
    layout.pack(layer.canonical(), size_.count, section_.data());
    view_ = layout.view(section_.data(), size_.count, layer.inputs, layer.outputs);
  }
  const fastmnist::Weights& view() const { return view_; }
  std::span<std::byte> section() { return section_.values(); }
  std::int64_t count() const { return size_.count; }

 private:
  fastmnist::FormSize size_;
  Guarded<std::byte> section_;
  fastmnist::Weights view_{};
};

// Rungs of the ladder that this machine can run, whatever FASTMNIST_ISA says. Emulated it can run
// all, and to leave one out would be to test it nowhere.
inline std::vector<fastmnist::Rung> runnable() {
  std::vector<fastmnist::Rung> rungs;
  for (const fastmnist::Rung& rung : fastmnist::ladder())
    if (rung.refusal.empty() || rung.refusal.starts_with("capped"))
      rungs.push_back(rung);
    else
      check::require(!fastmnist::kEmulated, "every instruction set is emulated", __FILE__, __LINE__,
                     std::string(rung.name) + ": " + rung.refusal);
  return rungs;
}

}  // namespace support
