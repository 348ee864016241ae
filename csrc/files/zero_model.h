// Is a weight zero? The main cost of a pruned layer is where its weights are.
//
// Eleven guesses are mixed: how often weights have been nonzero lately; for this output; for this
// input and for the inputs beside it; by what lies near in the neuron; by the last outputs; and by
// pairs of these. All but the first are told as differences from it, so that those that know
// nothing yet say 0. A counter that is new begins as the first one is, and holds on to that for as
// long as `prior` says.
#pragma once

#include "files/mixing.h"
#include "files/weight_grid.h"

namespace fastmnist {

class ZeroModel {
 public:
  // `outputs` and `inputs` have a counter for each line, all new.
  ZeroModel(const WeightOrder& order, Counter* outputs, Counter* inputs, std::int64_t input_count)
      : order_(order),
        outputs_(outputs),
        inputs_(inputs),
        input_count_(input_count),
        mixer_(order.width > 0 ? kImageStart : kPlainStart) {}

  // The probability, of 2^20, that weight [n, k] is not zero.
  std::int32_t predict(std::int64_t n, std::int64_t k, const Around& around) {
    level_ = lately_.logit();
    used_ = {begun(outputs_[line_of(n)]), begun(inputs_[line_of(k)])};
    const std::int32_t output = used_[0]->logit() - level_;
    const std::int32_t input = used_[1]->logit() - level_;
    const std::int32_t beside = inputs_beside(k);
    const std::size_t o = graded(output);
    const std::size_t i = graded(input);
    const std::size_t b = graded(beside);
    const auto near = static_cast<std::size_t>(std::min(around.near, 7));
    used_[2] = begun(pattern_[static_cast<std::size_t>(around.pattern)]);
    used_[3] = begun(output_input_[8 * o + i]);
    used_[4] = begun(last_[static_cast<std::size_t>(around.outputs)]);
    used_[5] = begun(near_[64 * b + 8 * o + near]);
    used_[6] = begun(beside_input_[8 * b + i]);
    used_[7] = begun(loud_[8 * loudness(around) + o]);
    logits_ = {level_, kLogitOne / 2, output, input, beside};
    for (std::size_t g = 2; g < kCounters; ++g) logits_[g + 3] = used_[g]->logit() - level_;
    return mixer_.mix(logits_);
  }

  void update(int bit) {
    mixer_.update(logits_, bit, order_.rate);
    lately_.update(bit, kLimit);
    for (Counter* counter : used_) counter->update(bit, kLimit);
  }

 private:
  static constexpr int kLimit = Counter::kSteps - 1;
  static constexpr std::size_t kCounters = 8;
  static constexpr int kGuesses = kCounters + 3;
  using Start = std::array<std::int32_t, kGuesses>;

  // As the mixer's weights were after layers of 784 and of 300 inputs, of 65536.
  static constexpr Start kImageStart = {68813, -6554, 26214, 26214, 32768, 36045,
                                        9830,  6554,  6554,  16384, 9830};
  static constexpr Start kPlainStart = {68813, -4588, 52429, 39322, 6554, 9830,
                                        6554,  6554,  9830,  13107, 13107};

  Counter* begun(Counter& counter) const {
    if (counter.is_new()) counter = Counter(lately_.p(), order_.prior);
    return &counter;
  }

  // The mean of the inputs around input k, those that share an edge twice.
  std::int32_t inputs_beside(std::int64_t k) const {
    std::int64_t sum = 0;
    std::int64_t count = 0;
    const auto add = [&](std::int64_t other, int weight) {
      if (other < 0 || other >= input_count_ || inputs_[line_of(other)].is_new()) return;
      sum += std::int64_t{weight} * inputs_[line_of(other)].p();
      count += weight;
    };
    add(k - 1, 2);
    add(k + 1, 2);
    if (const int width = order_.width; width > 0) {
      add(k - width, 2);
      add(k + width, 2);
      for (const int corner : {width - 1, width + 1}) {
        add(k - corner, 1);
        add(k + corner, 1);
      }
    }
    return count > 0 ? stretch22(static_cast<std::uint32_t>(sum / count)) - level_ : 0;
  }

  static std::size_t graded(std::int32_t difference) {
    return static_cast<std::size_t>(std::clamp(difference / 700, -4, 3) + 4);
  }

  static std::size_t loudness(const Around& around) {
    const auto bits = static_cast<int>(std::bit_width(static_cast<unsigned>(around.loudness)));
    return bits > 0 ? static_cast<std::size_t>(1 + std::min(14, bits * 3 / 2)) : 0;
  }

  WeightOrder order_;
  Counter* outputs_;
  Counter* inputs_;
  std::int64_t input_count_;
  Counter lately_{(1 << 22) / 32, 4};
  std::array<Counter, 64> pattern_, output_input_, beside_input_;
  std::array<Counter, 16> last_;
  std::array<Counter, 512> near_;
  std::array<Counter, 128> loud_;
  Mixer<kGuesses> mixer_;
  std::int32_t level_ = 0;
  std::array<Counter*, kCounters> used_{};
  std::array<std::int32_t, kGuesses> logits_{};
};

}  // namespace fastmnist
