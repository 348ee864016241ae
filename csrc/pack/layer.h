// One layer as it is saved and exported: nothing here depends on the machine.
#pragma once

#include <cstdint>

#include "core/types.h"

namespace fastmnist {

struct CanonicalLayer {
  const std::int8_t* weight;  // [outputs, inputs], row-major
  const float* weight_scale;  // [outputs]
  const float* bias;          // [outputs], or nullptr
  std::int64_t inputs;
  std::int64_t outputs;
  Clamp clamp;
  Quantizer x_quantizer;  // of the layer's inputs (static)
};

}  // namespace fastmnist
