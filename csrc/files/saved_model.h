// A saved model as it is computed: a graph of int8 networks, float32 layers and what joins them.
// The same on every machine; packing (runtime/loaded_model.h) makes it one of this machine.
//
// What python/fastmnist/int8/graph.py and network.py are to Python: a *value* is what a step gives
// for one row of the caller's, an array of a shape; steps stand in the order in which they run.
//
//     description of type   ──► network_record.h   a chain of int8 layers   ──┐
//     "compiled"                graph_record.h      a graph                  ├──► SavedModel
//     "module"              ──► chain_record.h      layers that are a chain ──┘
//
// All that a file says is checked on the way: fields, dtypes, sizes, indexes. That sizes fit
// together is checked where it is packed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/export.h"
#include "core/floats.h"
#include "core/status.h"
#include "core/types.h"
#include "files/array.h"
#include "files/model_file.h"
#include "pack/graph.h"
#include "pack/network.h"

namespace fastmnist {

// What a uint8 pixel p stands for: (p/255 - mean)/std, of each channel or of all.
struct SavedPixels {
  std::vector<double> mean;
  std::vector<double> std;

  bool operator==(const SavedPixels&) const = default;
  std::size_t channels() const { return mean.size(); }
  // The real value of each of the 256, per channel, as torchvision's ToTensor and Normalize round
  // it: [channels, 256].
  std::vector<float> table() const;
};

struct SavedLayer {
  std::string name;
  Array weight;        // int8 [outputs, inputs]
  Array weight_scale;  // float32 [outputs]
  Array bias;          // float32 [outputs]
  bool has_bias = true;
  Clamp clamp{};
  Activation activation{};
  float input_scale = 1;
  std::int32_t input_zero_point = 0;
  std::vector<std::uint8_t> input_zeros;  // [inputs], or none

  std::int64_t outputs() const { return weight.shape()[0]; }
  std::int64_t inputs() const { return weight.shape()[1]; }
};

struct SavedNetwork {
  InputKind kind = InputKind::kStatic;
  std::vector<SavedLayer> layers;
  Array multiplier;  // float32 [inputs], affine
  Array offset;
  std::optional<SavedPixels> pixels;
};

struct SavedValue {
  Shape shape;  // of a row; of a single number none
  bool is_constant = false;
  Array constant;

  std::int64_t width() const { return shape.empty() ? 1 : shape.back(); }
  std::int64_t size() const {
    std::int64_t all = 1;
    for (const std::int64_t size : shape) all *= size;
    return all;
  }
};

struct SavedInput {
  std::string name;
  std::int64_t value = 0;
  std::optional<SavedPixels> pixels;
  bool any_shape = false;
};

struct SavedStep {
  StepKind kind = StepKind::kReshape;
  std::string name;
  std::vector<std::int64_t> operands;
  std::int64_t value = 0;
  std::int64_t numbers_of = -1;  // the step that has this one's numbers, or -1
  std::optional<SavedNetwork> network;
  bool has_weight = false;
  bool has_bias = false;
  Array weight;  // float32
  Array bias;
  Activation activation{};
  Clamp clamp{};
  float epsilon = 0;
  std::int64_t begin = 0;
};

struct SavedGraph {
  std::vector<SavedValue> values;
  std::vector<SavedInput> inputs;
  std::vector<SavedStep> steps;
  std::vector<std::int64_t> outputs;
  std::vector<std::string> names;  // of outputs; none where they have no names
};

inline constexpr Clamp kNoClamp{-__builtin_huge_valf(), __builtin_huge_valf()};

// Reads the description and all numbers of one of a file's models. Refused where it is damaged, or
// where only torch can compute it.
FASTMNIST_API Result<SavedGraph> read_model(const ModelFile& file, std::size_t model);

}  // namespace fastmnist
