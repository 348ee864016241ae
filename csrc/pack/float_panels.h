// Weights of float32 layers in the order in which kernels read them: panels of 16 outputs
// (FloatLinearArgs in core/floats.h). Nothing but the order changes, so they come back exactly.
#pragma once

#include <cstdint>

#include "core/export.h"

namespace fastmnist {

// What panels, and the bias beside them, take: whole cache lines.
FASTMNIST_API std::int64_t float_panel_bytes(std::int64_t inputs, std::int64_t outputs);
FASTMNIST_API std::int64_t float_bias_bytes(std::int64_t outputs);

// weight [outputs, inputs] to panels, aligned to 64; outputs that fill the last panel are zeros.
FASTMNIST_API void pack_float_panels(const float* weight, std::int64_t inputs, std::int64_t outputs,
                                     float* panels);

// And back.
FASTMNIST_API void unpack_float_panels(const float* panels, std::int64_t inputs,
                                       std::int64_t outputs, float* weight);

// bias [outputs], or nullptr, to as many values as panels have outputs.
FASTMNIST_API void pack_float_bias(const float* bias, std::int64_t outputs, float* padded);

}  // namespace fastmnist
