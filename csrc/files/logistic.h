// Probabilities and their logits in integers alone, so that every machine decodes the same bits.
//
//     probability   16 bits: p stands for p / 65536, and is never 0 nor 65536
//     logit         ln(p / (1 - p)) in 1/1024: -12 to 12 is -12288 to 12288
//
// Both tables are made by the compiler from integer arithmetic: squash from e to the power of
// -1/64, multiplied up, stretch from binary logarithms digit by digit.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace fastmnist {

inline constexpr int kProbabilityBits = 16;
inline constexpr std::int32_t kProbabilityOne = 1 << kProbabilityBits;
inline constexpr std::int32_t kLogitOne = 1024;
inline constexpr std::int32_t kLogitMost = 12 * kLogitOne - 1;

namespace logistic {

inline constexpr int kSquashStep = 16;  // logits between two entries of the table
inline constexpr int kMantissaBits = 11;

// 1 / (1 + e^-x) for x = 0, 1/64, ... 12, in 2^-20.
consteval std::array<std::int32_t, 12 * 64 + 1> squash_table() {
  constexpr std::uint64_t kOne = std::uint64_t{1} << 31;
  constexpr std::uint64_t kFactor = 2114190000;  // e^(-1/64) in 2^-31
  std::array<std::int32_t, 12 * 64 + 1> table{};
  std::uint64_t power = kOne;
  for (std::int32_t& entry : table) {
    entry = static_cast<std::int32_t>((kOne << 20) / (kOne + power));
    power = (power * kFactor + kOne / 2) >> 31;
  }
  return table;
}

// ln(1 + i / 2^11) in 1/1024, and as the last entry that of 2.
consteval std::array<std::int16_t, (1 << kMantissaBits) + 1> logarithm_table() {
  std::array<std::int16_t, (1 << kMantissaBits) + 1> table{};
  for (std::uint64_t i = 0; i < table.size() - 1; ++i) {
    std::uint64_t square = ((std::uint64_t{1} << kMantissaBits) + i) << (30 - kMantissaBits);
    std::uint64_t log2 = 0;
    for (int digit = 0; digit < 20; ++digit) {
      square = (square * square) >> 30;
      log2 = 2 * log2 + (square >> 31);
      square >>= square >> 31;
    }
    // ln(2) * 1024 is 709.782712893384; in 2^-20.
    table[i] = static_cast<std::int16_t>((log2 * 744261118 / 1048576 + (1 << 19)) >> 20);
  }
  table.back() = 710;
  return table;
}

inline constexpr auto kSquash = squash_table();
inline constexpr auto kLogarithm = logarithm_table();

// ln of a positive number, in 1/1024.
constexpr std::int32_t logarithm(std::uint32_t value) {
  const int top = static_cast<int>(std::bit_width(value)) - 1;
  const std::uint32_t mantissa =
      top >= kMantissaBits ? value >> (top - kMantissaBits) : value << (kMantissaBits - top);
  return kLogarithm[mantissa - (1u << kMantissaBits)] + (top * 90852 >> 7);
}

}  // namespace logistic

// The probability of a logit, in 2^-20.
constexpr std::int32_t squash20(std::int32_t logit) {
  std::int32_t x = logit < 0 ? -logit : logit;
  x = x > kLogitMost ? kLogitMost : x;
  const auto i = static_cast<std::size_t>(x / logistic::kSquashStep);
  const std::int32_t part = x % logistic::kSquashStep;
  const std::int32_t low = logistic::kSquash[i];
  const std::int32_t p = low + (logistic::kSquash[i + 1] - low) * part / logistic::kSquashStep;
  return logit < 0 ? (1 << 20) - p : p;
}

// The logit of a probability of 22 bits, 0 < p < 2^22.
constexpr std::int32_t stretch22(std::uint32_t p) {
  return logistic::logarithm(p) - logistic::logarithm((1u << 22) - p);
}

}  // namespace fastmnist
