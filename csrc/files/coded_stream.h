// Everything of a compressed model in one run of bytes: numbers, texts, arrays and int8 weights, in
// an order that writer and reader agree on. All of them share one arithmetic coder, so that each
// costs its bits and no more; the models of bytes go on learning from one to the next.
//
//     1 byte    1: how the rest is coded
//     4 bytes   CRC-32 (crc32.h) of all that was coded, lowest byte first
//     …         the coder's bytes (bit_coder.h)
//
// A reader trusts nothing. What is asked for must fit into what bytes of that number can hold at
// best (11,400 decisions a byte, one decision a weight, eight a byte), which is known before
// memory is taken; bytes that end early, go on, or give another checksum are refused. Until
// finish() said that all is well, what was read may be anything.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "core/export.h"
#include "core/status.h"
#include "files/bit_coder.h"
#include "files/byte_model.h"
#include "files/byte_sink.h"
#include "files/crc32.h"

namespace fastmnist {

// The part that both directions have.
class CodedStream {
 protected:
  explicit CodedStream(BitCoder coder) : coder_(std::move(coder)) {}

  Status code_bytes(const std::uint8_t* known, std::uint8_t* taken, std::size_t count, int stride);
  std::uint32_t code_number(std::uint32_t number);

  BitCoder coder_;
  Crc32 checksum_;

 private:
  std::array<std::unique_ptr<ByteModel>, ByteModel::kMostStride + 1> models_;
};

// Stays where it is made.
class FASTMNIST_API CodedWriter : CodedStream {
 public:
  CodedWriter();
  CodedWriter(const CodedWriter&) = delete;
  CodedWriter& operator=(const CodedWriter&) = delete;

  // Up to 2^32 - 1.
  void number(std::uint32_t value);
  // As records of `stride` bytes, 1 (text) to 8.
  Status bytes(std::span<const std::uint8_t> values, int stride);
  // [outputs, inputs], row-major, at least one of each.
  Status weights(const std::int8_t* values, std::int64_t outputs, std::int64_t inputs);

  // Once, at the end. The bytes are the writer's.
  Result<std::span<const std::uint8_t>> finish();

 private:
  ByteSink out_;
};

class FASTMNIST_API CodedReader : CodedStream {
 public:
  // The bytes must live as long as the reader.
  static Result<std::unique_ptr<CodedReader>> open(std::span<const std::uint8_t> bytes);

  std::uint32_t number();

  // Whether so much may still come. To be asked before memory is taken; bytes() and weights() ask
  // themselves, too.
  Status check_room_for_bytes(std::uint64_t count) const;
  Status check_room_for_weights(std::int64_t outputs, std::int64_t inputs) const;

  Status bytes(std::span<std::uint8_t> values, int stride);
  Status weights(std::int8_t* values, std::int64_t outputs, std::int64_t inputs);

  // Whether all that was written was read, and is what was written.
  Status finish();

 private:
  CodedReader(std::span<const std::uint8_t> bytes, std::uint32_t expected);

  std::uint32_t expected_;
  std::int64_t room_;  // decisions that may still come
};

}  // namespace fastmnist
