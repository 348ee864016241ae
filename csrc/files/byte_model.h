// Bytes, bit by bit, from what stood before them: text, or arrays as records of a few bytes.
//
// Five contexts are mixed, and what followed the last time that the same four bytes stood here:
//
//     text (stride 1)      the 0, 1, 2, 3, 4 bytes before
//     records (stride s)   the byte's place in its record alone; with the byte before; with the
//                          same byte of the record before; with both; with the two bytes before
//
// Arrays are records of one element, its highest byte first (sign and exponent, then what is hardly
// to be foreseen). Text is read as if a sample of such text, a part of the format, had stood before
// it: descriptions are short and much alike.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "files/bit_coder.h"
#include "files/mixing.h"

namespace fastmnist {

// What descriptions are like (sample_text.cpp). Part of the format: it may not change.
extern const std::string_view kSampleText;

class ByteModel {
 public:
  static constexpr int kMostStride = 8;

  static Result<std::unique_ptr<ByteModel>> make(int stride);

  // Writes bytes, or reads them into `taken`, which is null where `coder` writes.
  Status code(BitCoder& coder, const std::uint8_t* known, std::uint8_t* taken, std::size_t count);

 private:
  static constexpr int kContexts = 5;
  static constexpr int kSlotBits = 16;
  static constexpr int kMatchBits = 14;
  static constexpr int kLongest = 31;
  static constexpr std::uint32_t kPast = 1 << 16;
  static constexpr int kLimit = 255;
  static constexpr int kRate = 10;
  static constexpr int kInputs = kContexts + 2;

  explicit ByteModel(int stride);

  int code_byte(BitCoder& coder, int byte);
  int code_bit(BitCoder& coder, int bit, std::uint32_t node);
  void hash_contexts();
  void find_match();
  std::uint8_t back(std::uint32_t distance) const { return at(done_ - distance); }
  std::uint8_t at(std::uint32_t position) const { return past_[position % kPast]; }
  int expected_bit(std::uint32_t node) const;

  std::uint32_t stride_;
  std::uint32_t place_ = 0;               // in the record
  std::uint32_t done_ = 0;                // bytes, from 0 on again behind 2^32
  std::unique_ptr<std::uint8_t[]> past_;  // the last kPast of them
  std::array<std::uint32_t, kContexts> hashes_{};
  std::unique_ptr<Counter[]> counters_;  // kSlotBits of each context
  std::unique_ptr<std::uint32_t[]> seen_at_;
  std::uint32_t match_ = 0;  // what may be repeated now
  int match_length_ = 0;     // of how many bytes before it is what stood here; 0: none
  std::array<Counter, kLongest + 1> by_length_;
  std::vector<Mixer<kInputs>> mixers_;  // by how many contexts are known
};

}  // namespace fastmnist
