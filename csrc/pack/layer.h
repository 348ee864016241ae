// One layer as it is saved and exported: nothing here depends on the machine.
#pragma once

#include <cstdint>

#include "core/types.h"

namespace fastmnist {

inline constexpr int kZerosOf = 51;  // a letter in a file, "A" to "z"

struct CanonicalLayer {
  const std::int8_t* weight;  // [outputs, inputs], row-major
  const float* weight_scale;  // [outputs]
  const float* bias;          // [outputs], or nullptr
  std::int64_t inputs;
  std::int64_t outputs;
  Clamp clamp;
  Quantizer x_quantizer;  // of the layer's inputs (static)
  // [inputs], or nullptr where it is not known: in how many of kZerosOf rows the input's code is 0.
  // Only for the choice of kernels, of which some skip zeros.
  const std::uint8_t* input_zeros = nullptr;
  Activation activation{};  // after the clamp
};

}  // namespace fastmnist
