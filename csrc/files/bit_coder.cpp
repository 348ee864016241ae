#include "files/bit_coder.h"

namespace fastmnist {

BitCoder::BitCoder(std::span<const std::uint8_t> bytes) : direction_(Direction::kRead), in_(bytes) {
  for (int i = 0; i < 4; ++i) shift();
  low_ = 0;
  high_ = 0xffffffff;
}

void BitCoder::shift() {
  if (direction_ == Direction::kWrite) {
    out_.push_back(static_cast<std::uint8_t>(low_ >> 24));
  } else {
    const bool is_there = next_ < in_.size();
    value_ = value_ << 8 | (is_there ? in_[next_] : 0u);
    next_ += is_there;
    if (!is_there && past_ <= kPast) ++past_;
  }
  low_ <<= 8;
  high_ = high_ << 8 | 0xff;
}

std::vector<std::uint8_t> BitCoder::finish() {
  for (int bytes = 0; bytes <= 4; ++bytes) {
    const std::uint64_t tail = (std::uint64_t{1} << (32 - 8 * bytes)) - 1;
    const std::uint64_t value = (low_ + tail) & ~tail;
    if (value > high_) continue;
    for (int i = 0; i < bytes; ++i)
      out_.push_back(static_cast<std::uint8_t>(value >> (24 - 8 * i)));
    break;
  }
  low_ = 0;
  high_ = 0xffffffff;
  return std::move(out_);
}

std::int64_t BitCoder::most_decisions(std::int64_t bytes) {
  // -log2(1 - 4 / 65536) is 8.8e-5 bits, a little less where the interval is rounded.
  constexpr std::int64_t kPerByte = 100'000;
  constexpr std::int64_t kMost = std::int64_t{1} << 62;
  return bytes > kMost / kPerByte - 8 ? kMost : (bytes + 5) * kPerByte;
}

}  // namespace fastmnist
