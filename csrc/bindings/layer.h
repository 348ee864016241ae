// _core.Layer: one canonical layer, for packing and for the reference.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <optional>
#include <string>

#include "bindings/errors.h"
#include "bindings/numpy_arrays.h"
#include "pack/layer.h"

namespace fastmnist::bindings {

struct LayerArrays {
  Array<std::int8_t> weight;
  Array<float> weight_scale;
  std::optional<Array<float>> bias;
  Clamp clamp;
  Quantizer x_quantizer;
  std::optional<Array<std::uint8_t>> input_zeros;
  Activation activation;

  // pybind11 allocates with these: an instance without __init__ is empty, not random.
  static void* operator new(std::size_t size) {
    void* memory = ::operator new(size);
    std::memset(memory, 0, size);
    return memory;
  }
  static void operator delete(void* memory) { ::operator delete(memory); }

  CanonicalLayer view() const {
    if (!weight) invalid("layer", "one that was initialized", "one without __init__");
    if (weight.ndim() != 2) invalid("weight", "[outputs, inputs]", shape_text(weight));
    const std::string outputs = std::to_string(weight.shape(0));
    if (weight_scale.size() != weight.shape(0))
      invalid("weight_scale", outputs + " values, one per output", shape_text(weight_scale));
    if (bias && bias->size() != weight.shape(0))
      invalid("bias", outputs + " values, one per output", shape_text(*bias));
    if (input_zeros && input_zeros->size() != weight.shape(1))
      invalid("input_zeros", std::to_string(weight.shape(1)) + " values, one per input",
              shape_text(*input_zeros));
    return {weight.data(),
            weight_scale.data(),
            bias ? bias->data() : nullptr,
            weight.shape(1),
            weight.shape(0),
            clamp,
            x_quantizer,
            input_zeros ? input_zeros->data() : nullptr,
            activation};
  }
};

}  // namespace fastmnist::bindings
