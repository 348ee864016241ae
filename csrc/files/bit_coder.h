// An arithmetic coder of binary decisions, each with the probability that a model gives it.
//
// The same model code runs in three directions: it asks code(bit, p), which writes the bit, or
// reads it (what was handed in does not matter then), or only adds up what it would cost. The
// interval [low_, high_] of 32 bits is divided in the ratio of the probabilities; leading bytes on
// which both ends agree are final.
//
// The probability is kept within [kLeast, 65536 - kLeast], so each decision costs at least
// -log2(1 - kLeast / 65536) bits, which bounds how many decisions some bytes can hold.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/export.h"
#include "files/byte_sink.h"
#include "files/logistic.h"

namespace fastmnist {

class FASTMNIST_API BitCoder {
 public:
  static constexpr std::int32_t kLeast = 32;  // of 65536

  BitCoder() = default;                                                            // measures
  explicit BitCoder(ByteSink& out) : direction_(Direction::kWrite), out_(&out) {}  // writes
  explicit BitCoder(std::span<const std::uint8_t> bytes);                          // reads

  // `one` is the probability of a 1, of 65536.
  int code(int bit, std::int32_t one) {
    one = one < kLeast ? kLeast : one > kProbabilityOne - kLeast ? kProbabilityOne - kLeast : one;
    if (direction_ == Direction::kMeasure) {
      cost_ -= logistic::logarithm(static_cast<std::uint32_t>(bit ? one : kProbabilityOne - one)) -
               kLogarithmOfOne;
      return bit;
    }
    const std::uint32_t range = high_ - low_;
    const std::uint32_t middle =
        low_ + static_cast<std::uint32_t>(
                   (std::uint64_t{range} * static_cast<std::uint32_t>(one)) >> kProbabilityBits);
    if (direction_ == Direction::kRead) bit = value_ <= middle;
    if (bit)
      high_ = middle;
    else
      low_ = middle + 1;
    while (((low_ ^ high_) >> 24) == 0) shift();
    return bit;
  }

  // Of what was measured, in 1/1024 of a natural digit: 8 bits are 5678.
  std::int64_t cost() const { return cost_; }

  // Ends the writing with as few bytes as tell the interval apart from what lies beside it when
  // zeros follow them.
  void finish();

  // Whether more was read than there is: then it is not what was written.
  bool is_past_end() const { return past_ > kWindow; }

  // Whether the bytes end as finish() ends them.
  bool is_at_end() const;

  // The most decisions that so many bytes can hold.
  static std::int64_t most_decisions(std::int64_t bytes);

 private:
  enum class Direction : unsigned char { kMeasure, kWrite, kRead };
  static constexpr std::int32_t kLogarithmOfOne = logistic::logarithm(kProbabilityOne);
  static constexpr int kWindow = 4;  // bytes

  struct Ending {
    std::uint32_t value;
    int bytes;
  };

  void shift();
  Ending ending() const;

  Direction direction_ = Direction::kMeasure;
  std::uint32_t low_ = 0;
  std::uint32_t high_ = 0xffffffff;
  std::uint32_t value_ = 0;
  std::int64_t cost_ = 0;
  int past_ = 0;  // zeros that were read behind the end
  std::size_t next_ = 0;
  std::span<const std::uint8_t> in_;
  ByteSink* out_ = nullptr;
};

}  // namespace fastmnist
