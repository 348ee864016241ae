// What a model of decisions is made of: counters, which learn how often a 1 came in one context,
// and a mixer, which learns how far each counter is to be believed.
//
//     p = squash(sum of weight_i * logit_i)         weight_i += rate * (bit - p) * logit_i
//
// This is online logistic regression on the logits of the counters; the idea comes from the PAQ
// compressors. A counter moves by 1/(n + 1.5) at its n-th bit, which makes it the frequency so far,
// until n reaches its limit; one that begins at a higher n holds on to what it was given.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "files/logistic.h"

namespace fastmnist {

class Counter {
 public:
  static constexpr int kSteps = 1024;

  Counter() = default;
  Counter(std::int32_t one, int seen) : p_(one), n_(static_cast<std::int16_t>(seen)) {}

  // Of 2^22.
  std::int32_t p() const { return p_; }
  bool is_new() const { return n_ == 0; }
  std::int32_t logit() const { return stretch22(static_cast<std::uint32_t>(p_)); }

  void update(int bit, int limit) {
    const std::int32_t target = bit ? kMost : kLeast;
    p_ += static_cast<std::int32_t>(
        (std::int64_t{target - p_} * kRate[static_cast<std::size_t>(n_)]) >> 16);
    n_ = static_cast<std::int16_t>(n_ + (n_ < limit));
  }

 private:
  static constexpr std::int32_t kLeast = 1 << 5;
  static constexpr std::int32_t kMost = (1 << 22) - kLeast;
  static consteval std::array<std::int32_t, kSteps> rates() {
    std::array<std::int32_t, kSteps> table{};
    for (std::int32_t n = 0; n < kSteps; ++n)
      table[static_cast<std::size_t>(n)] = 2 * 65536 / (2 * n + 3);
    return table;
  }
  static const std::array<std::int32_t, kSteps> kRate;

  std::int32_t p_ = 1 << 21;
  std::int16_t n_ = 0;
};

inline constexpr std::array<std::int32_t, Counter::kSteps> Counter::kRate = Counter::rates();

// Mixes `N` logits by one of several sets of weights.
template <int N>
class Mixer {
 public:
  static constexpr std::int32_t kOne = 1 << 16;

  explicit Mixer(const std::array<std::int32_t, N>& start) : weights_(start) {}

  // The probability of a 1, of 2^20.
  std::int32_t mix(const std::array<std::int32_t, N>& logits) {
    std::int64_t sum = 0;
    for (std::size_t i = 0; i < N; ++i) sum += std::int64_t{weights_[i]} * logits[i];
    const std::int64_t most = std::int64_t{kLogitMost} << 16;
    sum = sum > most ? most : sum < -most ? -most : sum;
    p_ = squash20(static_cast<std::int32_t>(sum >> 16));
    return p_;
  }

  void update(const std::array<std::int32_t, N>& logits, int bit, std::int32_t rate) {
    const std::int64_t error = std::int64_t{(bit << 20) - p_} * rate;
    for (std::size_t i = 0; i < N; ++i) {
      const std::int64_t w = weights_[i] + ((error * logits[i] + (1 << 21)) >> 22);
      weights_[i] = static_cast<std::int32_t>(w > kMost ? kMost : w < -kMost ? -kMost : w);
    }
  }

 private:
  static constexpr std::int32_t kMost = 16 * kOne;
  std::array<std::int32_t, N> weights_;
  std::int32_t p_ = 1 << 19;
};

}  // namespace fastmnist
