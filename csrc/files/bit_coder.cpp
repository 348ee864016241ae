#include "files/bit_coder.h"

namespace fastmnist {

BitCoder::BitCoder(std::span<const std::uint8_t> bytes) : direction_(Direction::kRead), in_(bytes) {
  for (int i = 0; i < kWindow; ++i) shift();
  low_ = 0;
  high_ = 0xffffffff;
}

void BitCoder::shift() {
  if (direction_ == Direction::kWrite) {
    out_->push(static_cast<std::uint8_t>(low_ >> 24));
  } else {
    const bool is_there = next_ < in_.size();
    value_ = value_ << 8 | (is_there ? in_[next_] : 0u);
    next_ += is_there;
    if (!is_there && past_ <= kWindow) ++past_;
  }
  low_ <<= 8;
  high_ = high_ << 8 | 0xff;
}

// The shortest bytes that lie in the interval.
BitCoder::Ending BitCoder::ending() const {
  for (int bytes = 0; bytes < kWindow; ++bytes) {
    const std::uint64_t tail = (std::uint64_t{1} << (32 - 8 * bytes)) - 1;
    const std::uint64_t value = (low_ + tail) & ~tail;
    if (value <= high_) return {static_cast<std::uint32_t>(value), bytes};
  }
  return {low_, kWindow};
}

void BitCoder::finish() {
  const Ending end = ending();
  for (int i = 0; i < end.bytes; ++i)
    out_->push(static_cast<std::uint8_t>(end.value >> (24 - 8 * i)));
}

bool BitCoder::is_at_end() const {
  const Ending end = ending();
  return next_ == in_.size() && past_ == kWindow - end.bytes && value_ == end.value;
}

std::int64_t BitCoder::most_decisions(std::int64_t bytes) {
  // -log2(1 - 32 / 65536) is 7.046e-4 bits, hardly less where the interval is rounded.
  constexpr std::int64_t kPerByte = 11'400;
  constexpr std::int64_t kMost = std::int64_t{1} << 62;
  return bytes > kMost / kPerByte - 8 ? kMost : (bytes + 5) * kPerByte;
}

}  // namespace fastmnist
