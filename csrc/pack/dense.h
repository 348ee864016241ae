// Canonical int8 weights to the packed layout that every kernel reads (drawn in core/types.h).
// Packing costs about one pass over the weights and is done once, at load or quantization time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/export.h"
#include "core/types.h"

namespace fastmnist {

// One layer as it is saved and exported: nothing here depends on the machine.
struct CanonicalLayer {
  const std::int8_t* weight;  // [outputs, inputs], row-major
  const float* weight_scale;  // [outputs]
  const float* bias;          // [outputs], or nullptr
  std::int64_t inputs;
  std::int64_t outputs;
  Clamp clamp;
  Quantizer x_quantizer;  // of the layer's inputs (static)
};

FASTMNIST_API std::int64_t packed_dense_bytes(std::int64_t inputs, std::int64_t outputs);

// Fills packed_dense_bytes(...) bytes and returns the view of them.
FASTMNIST_API PackedDense pack_dense(const CanonicalLayer& layer, std::byte* bytes);

// The view of weights that were packed before.
FASTMNIST_API PackedDense view_dense(const std::byte* bytes, std::int64_t inputs,
                                     std::int64_t outputs);

// The reverse of pack_dense: canonical weights [outputs, inputs], scales and biases [outputs].
FASTMNIST_API void unpack_dense(const PackedDense& packed, std::int8_t* weight, float* weight_scale,
                                float* bias);

}  // namespace fastmnist
