#include "files/byte_model.h"

#include <algorithm>
#include <new>
#include <utility>

namespace fastmnist {

Result<std::unique_ptr<ByteModel>> ByteModel::make(int stride) {
  std::unique_ptr<ByteModel> model(new (std::nothrow) ByteModel(stride));
  if (model == nullptr || model->counters_ == nullptr || model->seen_at_ == nullptr ||
      model->past_ == nullptr)
    return Status::out_of_memory();
  if (stride == 1) {
    BitCoder nowhere;
    const auto* sample = reinterpret_cast<const std::uint8_t*>(kSampleText.data());
    if (Status bad = model->code(nowhere, sample, nullptr, kSampleText.size()); !bad.ok())
      return bad;
  }
  return model;
}

ByteModel::ByteModel(int stride)
    : stride_(static_cast<std::uint32_t>(stride)),
      past_(new (std::nothrow) std::uint8_t[kPast]()),
      counters_(new (std::nothrow) Counter[std::size_t{kContexts} << kSlotBits]),
      seen_at_(new (std::nothrow) std::uint32_t[1 << kMatchBits]()),
      mixers_(kContexts + 2, Mixer<kInputs>({16384, 16384, 19661, 22938, 22938, 26214, 0})) {}

Status ByteModel::code(BitCoder& coder, const std::uint8_t* known, std::uint8_t* taken,
                       std::size_t count) {
  place_ = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const int byte = code_byte(coder, taken == nullptr ? known[i] : 0);
    if (taken != nullptr) taken[i] = static_cast<std::uint8_t>(byte);
    if (coder.is_past_end()) return Status::invalid("bytes", "all of them", "too few");
  }
  return {};
}

int ByteModel::code_byte(BitCoder& coder, int byte) {
  hash_contexts();
  find_match();
  std::uint32_t node = 1;
  for (int i = 7; i >= 0; --i)
    node = 2 * node + static_cast<std::uint32_t>(code_bit(coder, (byte >> i) & 1, node));
  byte = static_cast<int>(node & 255);
  const bool repeated = match_length_ > 0 && at(match_) == byte;
  match_length_ = repeated ? std::min(match_length_ + 1, kLongest) : 0;
  ++match_;
  past_[done_++ % kPast] = static_cast<std::uint8_t>(byte);
  place_ = (place_ + 1) % stride_;
  return byte;
}

// What the byte that is repeated has at this bit; -1 where nothing is, or it was another up to
// here.
int ByteModel::expected_bit(std::uint32_t node) const {
  if (match_length_ == 0) return -1;
  const int done = static_cast<int>(std::bit_width(node)) - 1;
  const std::uint32_t byte = 256u | at(match_);
  return byte >> (8 - done) == node ? static_cast<int>(byte >> (7 - done) & 1) : -1;
}

int ByteModel::code_bit(BitCoder& coder, int bit, std::uint32_t node) {
  std::array<Counter*, kContexts> used;
  std::array<std::int32_t, kInputs> logits;
  std::size_t known = 0;
  for (std::size_t c = 0; c < kContexts; ++c) {
    const std::uint32_t slot = (hashes_[c] + node * 0x9e3779b1u) * 0x85ebca6bu;
    used[c] = &counters_[(c << kSlotBits) + (slot >> (32 - kSlotBits))];
    known += !used[c]->is_new();
    logits[c] = used[c]->is_new() ? 0 : used[c]->logit();
  }
  const int expected = expected_bit(node);
  Counter& right = by_length_[static_cast<std::size_t>(match_length_)];
  logits[kContexts] = expected < 0 ? 0 : expected > 0 ? right.logit() : -right.logit();
  logits[kContexts + 1] = kLogitOne / 4;
  Mixer<kInputs>& mixer = mixers_[expected < 0 ? known : kContexts + 1];
  bit = coder.code(bit, mixer.mix(logits) >> 4);
  mixer.update(logits, bit, kRate);
  for (Counter* counter : used) counter->update(bit, kLimit);
  if (expected >= 0) right.update(bit == expected, kLimit);
  return bit;
}

void ByteModel::hash_contexts() {
  const std::uint32_t last = back(1);
  const std::uint32_t two = last << 8 | back(2);
  if (stride_ == 1) {
    const std::uint32_t three = two << 8 | back(3);
    hashes_ = {0, last, two, three, three << 8 | back(4)};
  } else {
    const std::uint32_t own = place_ > 0 ? last + 1 : 0;  // of the same record
    const std::uint32_t both = place_ > 1 ? two + 1 : 0;
    const std::uint32_t same = back(stride_);
    hashes_ = {0, own, same, own << 8 | same, both};
  }
  for (std::uint32_t c = 0; c < kContexts; ++c) {
    std::uint32_t& hash = hashes_[c];
    hash = (hash + 1) * 0xcc9e2d51u + (place_ << 3 | c) * 0x1b873593u;
    hash = (hash ^ hash >> 15) * 0x2c1b3c6du;
  }
}

// A match begins where as many bytes as kShortest stood before; it goes on by itself.
void ByteModel::find_match() {
  constexpr std::uint32_t kShortest = 4;
  std::uint32_t last = 0;
  for (std::uint32_t i = 1; i <= kShortest; ++i) last = last << 8 | back(i);
  std::uint32_t& seen = seen_at_[last * 0x9e3779b1u >> (32 - kMatchBits)];
  const std::uint32_t distance = done_ - seen;
  if (match_length_ == 0 && seen > 0 && distance > 0 && distance < kPast - kLongest) {
    match_ = seen;
    int length = 0;
    while (length < kLongest && at(match_ - 1 - static_cast<std::uint32_t>(length)) ==
                                    back(1 + static_cast<std::uint32_t>(length)))
      ++length;
    match_length_ = length >= static_cast<int>(kShortest) ? length : 0;
  }
  seen = done_;
}

}  // namespace fastmnist
