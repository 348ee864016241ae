// int8 weights [outputs, inputs] as they are coded, one after the other, and what is known around
// one when its turn comes.
//
// Where the inputs are the pixels of an image, `width` wide, a neuron's weights are an image, too,
// and a weight is like those that lie near it. Of these the ones above and to the left come first,
// whichever way the matrix is walked (`x` is the weight in question, o what is known of it):
//
//     o o o o o o o
//     o o o o o o o
//     o o o o o o o
//     o o o x
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace fastmnist {

// What is learned of one output, or one input, is kept for so many of them; others share.
inline constexpr std::int64_t kMostLines = 1 << 16;
constexpr std::int64_t line_of(std::int64_t output_or_input) {
  return output_or_input % kMostLines;
}

// How a matrix is coded: chosen by the writer, told in the file.
struct WeightOrder {
  bool by_inputs = false;  // input by input and there output by output, else the other way
  int width = 0;           // of the image that the inputs are, 0: they are none
  int prior = 8;           // how many weights the frequency elsewhere counts for in a new place
  int rate = 2;            // of the mixers

  static constexpr int kMostWidth = 4095;
};

// The distinct values of a matrix, each at its place among those of its sign, the smallest first.
struct WeightTable {
  std::array<bool, 256> has{};                           // [value + 128]
  std::array<std::uint8_t, 256> rank{};                  // [value + 128]; of 0: 0
  std::array<std::array<std::int8_t, 128>, 2> values{};  // [is negative][rank]
  std::array<int, 2> count{};

  void number() {
    count = {};
    for (int size = 1; size <= 128; ++size)
      for (const bool negative : {false, true}) {
        const int value = negative ? -size : size;
        if (value > 127 || !has[static_cast<std::size_t>(value + 128)]) continue;
        const auto rank_here = static_cast<std::size_t>(count[negative]++);
        rank[static_cast<std::size_t>(value + 128)] = static_cast<std::uint8_t>(rank_here);
        values[negative][rank_here] = static_cast<std::int8_t>(value);
      }
  }
  bool has_zero() const { return has[128]; }
  int rank_of(int value) const { return rank[static_cast<std::size_t>(value + 128)]; }
  int most() const { return std::max({count[0], count[1], 1}); }
};

// What is known around a weight.
struct Around {
  int pattern = 0;   // bit by bit: which of the six next weights of the neuron are not zero
  int near = 0;      // how many in the drawing are not
  int loudness = 0;  // their sizes, nearer ones more
  int sum = 0;       // their signs, nearer ones more
  int left = 0;      // the next weight of the neuron that is not zero, of two
  int above = 0;     // the sign of the one a row above (in no image: two before): 0, 1, 2
  int before = 0;    // the sign of the same weight of the output before
  int outputs = 0;   // bit by bit: which of the four outputs before have a weight here
};

class WeightGrid {
 public:
  WeightGrid(const std::int8_t* known, std::int64_t outputs, std::int64_t inputs)
      : known_(known), outputs_(outputs), inputs_(inputs) {}

  std::int64_t outputs() const { return outputs_; }
  std::int64_t inputs() const { return inputs_; }
  int at(std::int64_t n, std::int64_t k) const { return known_[n * inputs_ + k]; }

  Around around(std::int64_t n, std::int64_t k, int width, const WeightTable& table) const {
    const std::int8_t* here = known_ + n * inputs_ + k;
    const auto own = [&](std::int64_t back) { return k >= back ? int{here[-back]} : 0; };
    Around a;
    for (int d = 1; d <= 4 && d <= n; ++d) a.outputs |= (here[-d * inputs_] != 0) << (d - 1);
    a.before = n > 0 ? sign(here[-inputs_]) : 0;
    a.left = own(1);
    if (width == 0) {
      a.pattern = (own(1) != 0) | (own(2) != 0) << 1 | (own(3) != 0) << 2;
      for (int d = 1; d <= 12; ++d) a.near += own(d) != 0;
      a.above = sign(own(2));
      return a;
    }
    a.above = sign(own(width));
    if (a.left == 0) a.left = own(width);
    a.pattern = (own(1) != 0) | (own(width) != 0) << 1 | (own(width + 1) != 0) << 2 |
                (own(width - 1) != 0) << 3 | (own(2) != 0) << 4 | (own(2 * width) != 0) << 5;
    const auto x = static_cast<int>(k % width);
    const int first = std::max(-kRadius, -x);
    const int last = std::min(kRadius, width - 1 - x);
    for (int dy = 0; dy <= kRadius && k >= std::int64_t{dy} * width + (dy > 0 ? -first : 1); ++dy)
      for (int dx = first; dx <= (dy == 0 ? -1 : last); ++dx) {
        const int value = here[-std::int64_t{dy} * width + dx];
        if (value == 0) continue;
        const int weight = kNearness[static_cast<std::size_t>(dx * dx + dy * dy)];
        ++a.near;
        a.loudness += weight * (2 + table.rank_of(value) * 8 / table.most());
        a.sum += value < 0 ? -weight : weight;
      }
    return a;
  }

 private:
  static constexpr int kRadius = 3;
  // By the square of the distance.
  static constexpr std::array<int, 2 * kRadius* kRadius + 1> kNearness = {
      0, 40, 24, 0, 9, 9, 0, 0, 4, 4, 2, 0, 0, 2, 0, 0, 0, 0, 2};

  static int sign(int value) { return value > 0 ? 2 : value < 0 ? 1 : 0; }

  const std::int8_t* known_;
  std::int64_t outputs_, inputs_;
};

}  // namespace fastmnist
