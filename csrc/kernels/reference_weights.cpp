// Weights to codes of few bits: which scale a channel gets.
//
// With 8 bits the largest magnitude maps to 127, and rounding is all that is lost. With fewer, a
// smaller scale that clips the largest weights may lose less: the scale is the one of least squared
// error among 80 up to that of the largest magnitude, 16 to an octave, then made exact for its
// own codes (the s that minimizes sum (w - s q)^2 is sum w q / sum q^2) as long as that helps.
// Sums are in double, in the order of the weights, so that every machine finds the same scale.
#include <cmath>

#include "core/arithmetic.h"
#include "kernels/reference.h"

namespace fastmnist::reference {
namespace {

constexpr int kOctaves = 5;
constexpr int kSteps = 16;  // of an octave: 32/32, 31/32, ... 17/32
constexpr int kRounds = 16;

struct Fit {
  double error;     // sum (w - scale q)^2
  double products;  // sum w q
  double squares;   // sum q^2
};

// Sums of one channel for a scale; stops where the error is not below `bound` any more.
Fit fit(const float* w, std::int64_t n, float scale, float most, double bound) {
  Fit sums{0.0, 0.0, 0.0};
  for (std::int64_t k = 0; k < n; ++k) {
    const double q = quantize_weight(w[k], scale, most);
    const double rest = static_cast<double>(w[k]) - static_cast<double>(scale) * q;
    sums.error += rest * rest;
    sums.products += static_cast<double>(w[k]) * q;
    sums.squares += q * q;
    if (!(sums.error < bound)) return sums;
  }
  return sums;
}

float scale_of_least_error(const float* w, std::int64_t n, float largest, float most) {
  const float top = weight_scale_from_max(largest, most);
  float best = top;
  Fit found = fit(w, n, top, most, HUGE_VAL);
  for (int octave = 0; octave < kOctaves; ++octave) {
    for (int step = octave == 0 ? 1 : 0; step < kSteps; ++step) {
      const float part = static_cast<float>(2 * kSteps - step) / static_cast<float>(2 * kSteps);
      const float scale = top * (part / static_cast<float>(1 << octave));
      if (!(scale >= FLT_MIN)) continue;
      const Fit sums = fit(w, n, scale, most, found.error);
      if (sums.error < found.error) {
        best = scale;
        found = sums;
      }
    }
  }
  for (int round = 0; round < kRounds && found.squares > 0.0; ++round) {
    const auto scale = static_cast<float>(found.products / found.squares);
    if (!(scale >= FLT_MIN)) break;
    const Fit sums = fit(w, n, scale, most, found.error);
    if (!(sums.error < found.error)) break;
    best = scale;
    found = sums;
  }
  return best;
}

}  // namespace

void quantize_weights(const float* weight, std::int64_t outputs, std::int64_t inputs, int bits,
                      std::int8_t* codes, float* scales) {
  const float most = most_code(bits);
  for (std::int64_t n = 0; n < outputs; ++n) {
    const float* w = weight + n * inputs;
    float largest = 0.0f;
    for (std::int64_t k = 0; k < inputs; ++k) largest = std::fmax(largest, std::fabs(w[k]));
    scales[n] =
        bits == 8 ? weight_scale_from_max(largest) : scale_of_least_error(w, inputs, largest, most);
    for (std::int64_t k = 0; k < inputs; ++k)
      codes[n * inputs + k] = quantize_weight(w[k], scales[n], most);
  }
}

}  // namespace fastmnist::reference
