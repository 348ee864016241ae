// The entropy coder: what was written is read, in few bytes, and bytes that nobody wrote do no
// harm.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "check.h"
#include "files/coded_stream.h"
#include "files/logistic.h"
#include "files/mixing.h"
#include "support.h"

namespace {

using namespace fastmnist;
using namespace support;
using Bytes = std::vector<std::uint8_t>;
using Weights = std::vector<std::int8_t>;

// `share` of the weights are not zero, and of `values` values of both signs.
Weights sparse(Random& random, std::int64_t count, int share, int values) {
  Weights weights(static_cast<std::size_t>(count));
  for (std::int8_t& weight : weights)
    if (integer(random, 0, 99) < share)
      weight = static_cast<std::int8_t>(integer(random, 0, values - 1) - values / 2);
  return weights;
}

Bytes bytes_of(CodedWriter& writer) {
  const std::span<const std::uint8_t> bytes = check::value(writer.finish());
  return {bytes.begin(), bytes.end()};
}

Bytes written(const Weights& weights, std::int64_t outputs, std::int64_t inputs) {
  CodedWriter writer;
  check::ok(writer.weights(weights.data(), outputs, inputs));
  return bytes_of(writer);
}

Status read(std::span<const std::uint8_t> bytes, std::int64_t outputs, std::int64_t inputs,
            Weights& weights) {
  auto reader = CodedReader::open(bytes);
  if (!reader.ok()) return std::move(reader).status();
  if (Status bad = (*reader)->check_room_for_weights(outputs, inputs); !bad.ok()) return bad;
  // Memory ends where the weights end.
  Guarded<std::int8_t> taken(static_cast<std::size_t>(outputs * inputs), Edge::kLast);
  if (Status bad = (*reader)->weights(taken.data(), outputs, inputs); !bad.ok()) return bad;
  weights.assign(taken.data(), taken.data() + outputs * inputs);
  return (*reader)->finish();
}

TEST(logits_are_those_of_real_numbers) {
  for (std::int32_t logit = -kLogitMost; logit <= kLogitMost; logit += 7) {
    const double p = 1 / (1 + std::exp(-logit / 1024.0));
    CHECK_IN(std::to_string(logit), std::fabs(squash20(logit) / 1048576.0 - p) < 2e-5);
  }
  for (std::uint32_t p = 32; p < (1u << 22) - 32; p = p * 9 / 8 + 1) {
    const double real = std::log(p / 4194304.0 / (1 - p / 4194304.0));
    CHECK_IN(std::to_string(p), std::fabs(stretch22(p) / 1024.0 - real) < 4e-3);
  }
}

TEST(counters_are_frequencies) {
  Counter counter;
  for (int i = 0; i < 900; ++i) counter.update(i % 3 == 0, 1023);
  CHECK(std::abs(counter.p() - (1 << 22) / 3) < 1 << 14);
}

TEST(bits_cost_what_their_probabilities_say) {
  Random random(3);
  for (const int one : {0, 32, 500, 9000, 32768, 60000, 65536}) {
    ByteSink bytes;
    BitCoder writer(bytes);
    BitCoder measure;
    std::vector<int> bits;
    for (int i = 0; i < 20000; ++i) {
      bits.push_back(integer(random, 0, 65535) < one);
      writer.code(bits.back(), one);
      measure.code(bits.back(), one);
    }
    writer.finish();
    const double expected = static_cast<double>(measure.cost()) / 1024 / std::log(2.0) / 8;
    CHECK_IN(std::to_string(one),
             std::fabs(static_cast<double>(bytes.bytes().size()) - expected) < 4 + expected / 200);
    BitCoder reader{std::span<const std::uint8_t>(bytes.bytes())};
    for (const int bit : bits) CHECK(reader.code(0, one) == bit);
    CHECK(reader.is_at_end());
    CHECK(!reader.is_past_end());
  }
}

TEST(bytes_hold_no_more_decisions_than_said) {
  // What is as probable as can be, again and again, until a fifth byte is begun.
  ByteSink out;
  BitCoder writer(out);
  constexpr std::int64_t kCount = 1'000'000;
  for (std::int64_t i = 0; i < kCount; ++i) writer.code(0, 0);
  writer.finish();
  const auto bytes = static_cast<std::int64_t>(out.bytes().size());
  CHECK(BitCoder::most_decisions(bytes) >= kCount);
  CHECK(BitCoder::most_decisions(bytes - 8) < kCount);  // and not far from it
  CHECK(BitCoder::most_decisions(std::int64_t{1} << 61) > std::int64_t{1} << 60);
}

TEST(weights_come_back) {
  Random random(5);
  for (const auto& [n, k] :
       {std::pair{1, 1}, {1, 40}, {40, 1}, {3, 7}, {5, 784}, {11, 48}, {9, 75}})
    for (const int share : {0, 3, 50, 100})
      for (const int values : {1, 2, 15, 256}) {
        const Weights weights = sparse(random, n * k, share, values);
        const Bytes bytes = written(weights, n, k);
        Weights again;
        check::ok(read(bytes, n, k, again));
        CHECK(again == weights);
      }
}

TEST(more_outputs_than_lines_come_back) {
  Random random(9);
  for (const auto& [n, k] : {std::pair<std::int64_t, std::int64_t>{70'000, 2}, {2, 70'000}}) {
    const Weights weights = sparse(random, n * k, 10, 15);
    Weights again;
    check::ok(read(written(weights, n, k), n, k, again));
    CHECK(again == weights);
  }
}

TEST(a_stream_holds_one_after_the_other) {
  Random random(6);
  const Weights weights = sparse(random, 300, 20, 15);
  const std::string text = R"({"type":"int8","kind":"static","name":"1"})";
  const Bytes floats = {0x3f, 0x80, 0, 0, 0x3f, 0x81, 0, 0, 0x40, 0, 0, 1};
  const std::span<const std::uint8_t> letters(reinterpret_cast<const std::uint8_t*>(text.data()),
                                              text.size());
  CodedWriter writer;
  for (const std::uint32_t number : {0u, 1u, 300u, 0xffffffffu}) writer.number(number);
  check::ok(writer.bytes(letters, 1));
  check::ok(writer.weights(weights.data(), 15, 20));
  check::ok(writer.bytes(floats, 4));
  check::ok(writer.bytes(letters, 1));
  const Bytes bytes = bytes_of(writer);
  CHECK(bytes.size() < 5 + 6 + 20 + 100 + 12);

  const auto reader = check::value(CodedReader::open(bytes));
  for (const std::uint32_t number : {0u, 1u, 300u, 0xffffffffu}) CHECK(reader->number() == number);
  Bytes letters_again(text.size()), floats_again(floats.size());
  Weights weights_again(300);
  check::ok(reader->bytes(letters_again, 1));
  CHECK(std::equal(letters.begin(), letters.end(), letters_again.begin()));
  check::ok(reader->weights(weights_again.data(), 15, 20));
  CHECK(weights_again == weights);
  check::ok(reader->bytes(floats_again, 4));
  CHECK(floats_again == floats);
  CHECK(!reader->finish().ok());  // a text is left
  check::ok(reader->bytes(letters_again, 1));
  check::ok(reader->finish());
}

// Another build, or another machine, must write the same and read what this one wrote.
TEST(the_format_stays_as_it_is) {
  Weights weights(6 * 28 * 28);
  std::uint32_t state = 1;
  for (std::int8_t& weight : weights) {
    state = state * 1664525u + 1013904223u;
    if (state >> 28 == 0) weight = static_cast<std::int8_t>(static_cast<int>(state >> 20 & 15) - 8);
  }
  std::uint64_t digest = 0;
  for (const std::uint8_t byte : written(weights, 6, 28 * 28))
    digest = digest * 1099511628211u + byte;
  CHECK_IN(std::to_string(digest), digest == 6480123653678820951u);
}

TEST(what_is_cut_or_changed_is_refused) {
  Random random(7);
  const Weights weights = sparse(random, 8 * 28 * 28, 4, 15);
  const Bytes bytes = written(weights, 8, 28 * 28);
  Weights again;
  check::ok(read(bytes, 8, 28 * 28, again));
  for (std::size_t size = 0; size < bytes.size(); ++size)
    CHECK(!read(std::span(bytes).first(size), 8, 28 * 28, again).ok());
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    Bytes changed = bytes;
    changed[bit / 8] = static_cast<std::uint8_t>(changed[bit / 8] ^ 1 << bit % 8);
    CHECK_IN(std::to_string(bit), !read(changed, 8, 28 * 28, again).ok());
  }
  Bytes longer = bytes;
  longer.push_back(0);
  CHECK(!read(longer, 8, 28 * 28, again).ok());
  CHECK(!read(bytes, 28 * 28, 8, again).ok());
}

TEST(random_bytes_are_read_and_refused) {
  Random random(8);
  Weights weights;
  for (int i = 0; i < 1000; ++i) {
    Bytes bytes(static_cast<std::size_t>(5 + integer(random, 0, 60 - 1)));
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(integer(random, 0, 255));
    bytes[0] = 1;
    CHECK(
        !read(bytes, 1 + integer(random, 0, 40 - 1), 1 + integer(random, 0, 40 - 1), weights).ok());
    auto reader = check::value(CodedReader::open(bytes));
    Bytes taken(static_cast<std::size_t>(integer(random, 0, 80 - 1)));
    const Status status = reader->bytes(taken, static_cast<int>(integer(random, 1, 8)));
    CHECK(!status.ok() || !reader->finish().ok());
  }
}

TEST(more_than_there_can_be_is_refused_before_memory_is_taken) {
  const Bytes bytes = written(Weights(784 * 10), 10, 784);
  CHECK(bytes.size() < 16);
  const auto reader = check::value(CodedReader::open(bytes));
  check::ok(reader->check_room_for_weights(10, 784));
  for (const auto& [n, k] : {std::pair<std::int64_t, std::int64_t>{1 << 20, 784},
                             {std::int64_t{1} << 40, std::int64_t{1} << 40},
                             {0, 5},
                             {5, 0},
                             {-1, -1}})
    CHECK(!reader->check_room_for_weights(n, k).ok());
  CHECK(!reader->check_room_for_bytes(std::uint64_t{1} << 60).ok());
  CHECK(!reader->weights(nullptr, 1 << 20, 784).ok());
  CHECK(CodedReader::open(Bytes{2, 0, 0, 0, 0}).status().text() ==
        "bytes: expected version 1, got 2");
  CHECK(CodedReader::open(Bytes{1, 0}).status().text() == "bytes: expected 5 or more, got 2");
}

TEST(what_cannot_be_written_is_refused) {
  CodedWriter writer;
  const std::int8_t one = 1;
  CHECK(!writer.weights(&one, 0, 1).ok());
  CHECK(!writer.weights(&one, 1, -1).ok());
  const std::uint8_t byte = 1;
  CHECK(writer.bytes(std::span(&byte, 1), 9).text() == "stride: expected 1 to 8, got 9");
}

}  // namespace
