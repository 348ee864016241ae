// Which of the distinct values a weight has, where it is known that it is not zero: its sign, and
// then its place among the values of that sign, by halving: is it in the upper half, and so on.
// Small and large weights keep together along rows, columns and in images; signs in images.
#pragma once

#include "files/bit_coder.h"
#include "files/mixing.h"
#include "files/weight_grid.h"

namespace fastmnist {

// What is known of the weights of one output, or of one input.
struct Line {
  Counter sign;
  std::int16_t rank = -1;  // the mean, in 1/64 and fading; -1: none yet

  void add(int new_rank) {
    rank = static_cast<std::int16_t>(rank < 0 ? 64 * new_rank : rank + (64 * new_rank - rank) / 8);
  }
};

class ValueModel {
 public:
  ValueModel(const WeightOrder& order, const WeightTable& table)
      : rate_(order.rate),
        table_(table),
        signs_(order.width > 0 ? SignStart{3277, 0, 13107, 13107, 6554, 55706}
                               : SignStart{19661, 19661, 3277, 6554, 3277, 16384}),
        halves_(order.width > 0 ? HalfStart{6554, 13107, 6554, 32768, 19661}
                                : HalfStart{22938, 11796, 16384, 6554, 13107}) {}

  // Writes `value`, or reads one.
  int code(BitCoder& coder, int value, const Around& around, Line& output, Line& input) {
    bool negative = table_.count[1] > 0;
    if (table_.count[0] > 0 && table_.count[1] > 0)
      negative = code_sign(coder, value < 0, around, output, input);
    const auto side = static_cast<std::size_t>(negative);
    const int rank = code_rank(coder, table_.rank_of(value), side, around, output, input);
    output.add(rank);
    input.add(rank);
    return table_.values[side][static_cast<std::size_t>(rank)];
  }

 private:
  using SignStart = std::array<std::int32_t, 6>;
  using HalfStart = std::array<std::int32_t, 5>;
  static constexpr int kLimit = 255;
  static constexpr std::size_t kMiddles = 128;
  static constexpr std::size_t kGrades = 8;

  template <std::size_t Inputs>
  int code_bit(BitCoder& coder, int bit, const std::array<Counter*, Inputs>& counters,
               Mixer<static_cast<int>(Inputs)>& mixer) {
    std::array<std::int32_t, Inputs> logits;
    for (std::size_t i = 0; i < Inputs; ++i) logits[i] = counters[i]->logit();
    bit = coder.code(bit, mixer.mix(logits) >> 4);
    mixer.update(logits, bit, rate_);
    for (Counter* counter : counters) counter->update(bit, kLimit);
    return bit;
  }

  bool code_sign(BitCoder& coder, bool negative, const Around& around, Line& output, Line& input) {
    const int left = around.left > 0 ? 2 : around.left < 0 ? 1 : 0;
    const auto two = static_cast<std::size_t>(3 * left + around.above);
    const auto size = static_cast<int>(std::bit_width(static_cast<unsigned>(std::abs(around.sum))));
    const auto sum = static_cast<std::size_t>((around.sum < 0 ? 0 : 16) + std::min(15, size));
    const std::array<Counter*, 6> counters = {
        &negative_,
        &output.sign,
        &input.sign,
        &by_two_[two],
        &by_three_[3 * two + static_cast<std::size_t>(around.before)],
        &by_sum_[sum]};
    return code_bit(coder, negative, counters, signs_) != 0;
  }

  int code_rank(BitCoder& coder, int rank, std::size_t side, const Around& around,
                const Line& output, const Line& input) {
    const int count = table_.count[side];
    const auto grade = [&](int mean) {
      const int steps = static_cast<int>(kGrades) - 1;
      return static_cast<std::size_t>(
          mean < 0 ? 0 : 1 + std::min(steps - 1, mean * steps / (64 * std::max(1, count - 1))));
    };
    const std::size_t o = grade(output.rank);
    const std::size_t i = grade(input.rank);
    const std::size_t l = grade(around.left == 0 ? -1 : 64 * table_.rank_of(around.left));
    int low = 0;
    std::size_t depth = 0;
    for (int half = static_cast<int>(std::bit_ceil(static_cast<unsigned>(std::max(count, 1)))) / 2;
         half > 0; half /= 2, ++depth) {
      const int middle = low + half;  // tells which halving it is
      if (middle >= count) continue;
      const auto m = static_cast<std::size_t>(middle);
      const std::array<Counter*, 5> counters = {
          &at_[m], &by_output_[kGrades * m + o], &by_input_[kGrades * m + i],
          &by_left_[kGrades * m + l], &by_side_[2 * m + side]};
      if (code_bit(coder, rank >= middle, counters, halves_[depth]) != 0) low = middle;
    }
    return low;
  }

  // A mixer for each halving.
  struct Halves {
    explicit Halves(const HalfStart& start)
        : mixers{Mixer<5>(start), Mixer<5>(start), Mixer<5>(start), Mixer<5>(start),
                 Mixer<5>(start), Mixer<5>(start), Mixer<5>(start), Mixer<5>(start)} {}
    Mixer<5>& operator[](std::size_t depth) { return mixers[depth]; }
    std::array<Mixer<5>, 8> mixers;
  };

  std::int32_t rate_;
  const WeightTable& table_;
  Mixer<6> signs_;
  Halves halves_;
  Counter negative_;
  std::array<Counter, 9> by_two_;
  std::array<Counter, 27> by_three_;
  std::array<Counter, 32> by_sum_;
  std::array<Counter, kMiddles> at_;
  std::array<Counter, kMiddles * kGrades> by_output_, by_input_, by_left_;
  std::array<Counter, kMiddles * 2> by_side_;
};

}  // namespace fastmnist
