#include "files/coded_stream.h"

#include <algorithm>
#include <new>
#include <string>
#include <utility>

#include "files/weight_coder.h"

namespace fastmnist {
namespace {

constexpr std::uint8_t kVersion = 1;
constexpr std::size_t kHead = 5;

}  // namespace

// Its length in bits, 0 to 32, then the bits below the highest.
std::uint32_t CodedStream::code_number(std::uint32_t number) {
  constexpr std::int32_t kEven = kProbabilityOne / 2;
  const int wanted = static_cast<int>(std::bit_width(number));
  int width = 0;
  for (int i = 5; i >= 0; --i) width = 2 * width + coder_.code((wanted >> i) & 1, kEven);
  width = std::min(width, 32);
  std::uint32_t read = width > 0;
  for (int i = width - 2; i >= 0; --i)
    read = 2 * read + static_cast<std::uint32_t>(coder_.code((number >> i) & 1, kEven));
  for (int i = 0; i < 4; ++i) checksum_.add(static_cast<std::uint8_t>(read >> (8 * i)));
  return read;
}

Status CodedStream::code_bytes(const std::uint8_t* known, std::uint8_t* taken, std::size_t count,
                               int stride) {
  if (stride < 1 || stride > ByteModel::kMostStride)
    return Status::invalid("stride", "1 to 8", std::to_string(stride));
  std::unique_ptr<ByteModel>& model = models_[static_cast<std::size_t>(stride)];
  if (model == nullptr) {
    Result<std::unique_ptr<ByteModel>> made = ByteModel::make(stride);
    if (!made.ok()) return std::move(made).status();
    model = *std::move(made);
  }
  if (Status bad = model->code(coder_, known, taken, count); !bad.ok()) return bad;
  checksum_.add(known, count);
  return {};
}

// The base class only keeps where its bytes will go.
CodedWriter::CodedWriter() : CodedStream(BitCoder(out_)) {
  for (std::size_t i = 0; i < kHead; ++i) out_.push(i == 0 ? kVersion : std::uint8_t{0});
}

void CodedWriter::number(std::uint32_t value) { code_number(value); }

Status CodedWriter::bytes(std::span<const std::uint8_t> values, int stride) {
  return code_bytes(values.data(), nullptr, values.size(), stride);
}

Status CodedWriter::weights(const std::int8_t* values, std::int64_t outputs, std::int64_t inputs) {
  if (outputs < 1 || inputs < 1 || inputs > (std::int64_t{1} << 40) / outputs)
    return Status::invalid("weights", "at least one output and input, at most 2^40 of both",
                           std::to_string(outputs) + " and " + std::to_string(inputs));
  checksum_.add(values, static_cast<std::size_t>(outputs * inputs));
  return code_weights(coder_, values, nullptr, outputs, inputs);
}

Result<std::span<const std::uint8_t>> CodedWriter::finish() {
  coder_.finish();
  if (!out_.ok()) return Status::out_of_memory();
  const std::span<std::uint8_t> all = out_.bytes();
  for (std::size_t i = 0; i < 4; ++i)
    all[1 + i] = static_cast<std::uint8_t>(checksum_.value() >> (8 * i));
  return std::span<const std::uint8_t>(all);
}

Result<std::unique_ptr<CodedReader>> CodedReader::open(std::span<const std::uint8_t> bytes) {
  if (bytes.size() < kHead)
    return Status::invalid("bytes", "5 or more", std::to_string(bytes.size()));
  if (bytes[0] != kVersion)
    return Status::invalid("bytes", "version 1", std::to_string(int{bytes[0]}));
  std::uint32_t checksum = 0;
  for (int i = 0; i < 4; ++i)
    checksum |= std::uint32_t{bytes[static_cast<std::size_t>(1 + i)]} << (8 * i);
  std::unique_ptr<CodedReader> reader(new (std::nothrow)
                                          CodedReader(bytes.subspan(kHead), checksum));
  if (reader == nullptr) return Status::out_of_memory();
  return reader;
}

CodedReader::CodedReader(std::span<const std::uint8_t> bytes, std::uint32_t expected)
    : CodedStream(BitCoder(bytes)),
      expected_(expected),
      room_(BitCoder::most_decisions(static_cast<std::int64_t>(bytes.size()))) {}

std::uint32_t CodedReader::number() { return code_number(0); }

Status CodedReader::check_room_for_bytes(std::uint64_t count) const {
  if (count > static_cast<std::uint64_t>(room_ / 8))
    return Status::invalid("bytes", "no more than " + std::to_string(room_ / 8) + " coded ones",
                           std::to_string(count));
  return {};
}

Status CodedReader::check_room_for_weights(std::int64_t outputs, std::int64_t inputs) const {
  if (outputs < 1 || inputs < 1 || inputs > room_ / outputs)
    return Status::invalid(
        "weights",
        "outputs and inputs of at least 1 and " + std::to_string(room_) + " weights at most",
        std::to_string(outputs) + " x " + std::to_string(inputs));
  return {};
}

Status CodedReader::bytes(std::span<std::uint8_t> values, int stride) {
  if (Status bad = check_room_for_bytes(values.size()); !bad.ok()) return bad;
  room_ -= 8 * static_cast<std::int64_t>(values.size());
  return code_bytes(values.data(), values.data(), values.size(), stride);
}

Status CodedReader::weights(std::int8_t* values, std::int64_t outputs, std::int64_t inputs) {
  if (Status bad = check_room_for_weights(outputs, inputs); !bad.ok()) return bad;
  room_ -= outputs * inputs;
  if (Status bad = code_weights(coder_, values, values, outputs, inputs); !bad.ok()) return bad;
  checksum_.add(values, static_cast<std::size_t>(outputs * inputs));
  return {};
}

Status CodedReader::finish() {
  if (!coder_.is_at_end())
    return Status::invalid("bytes", "as many as were written, and as they were", "others");
  if (checksum_.value() != expected_)
    return Status::invalid("bytes", "a checksum of " + std::to_string(expected_),
                           std::to_string(checksum_.value()) + ": they were changed");
  return {};
}

}  // namespace fastmnist
