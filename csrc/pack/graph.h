// A small graph in one buffer: packed int8 networks, float32 layers, and what joins them.
//
//     +--------+--------+--------+---------+-------+----------+------------------------------+- ...
//     | header | inputs | values | outputs | steps | operands | sections: a packed network     |
//     | 64 B   | 32 B   | 32 B   | 4 B     | 64 B  | 4 B      | (network.h), panels, a table  |
//     +--------+--------+--------+---------+-------+----------+------------------------------+- ...
//
// Sections start at multiples of 64 bytes. A *value* is what a step gives: per sample (a row of the
// caller's) so many positions of so many floats each, contiguous, so that flattening and splitting
// rows is nothing. Steps stand in the order in which they run. Each value has its *place*: an
// input's memory, an output's, constants in the buffer, or scratch memory, which is planned once,
// here: values whose times do not meet share it.
//
// The buffer is made and read on one machine and never saved; it may still come from anywhere, so
// view_graph checks every size and offset before anything is read through it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string_view>
#include <vector>

#include "core/export.h"
#include "core/status.h"
#include "core/types.h"
#include "pack/network.h"

namespace fastmnist {

inline constexpr std::uint32_t kGraphVersion = 1;
inline constexpr std::uint32_t kMaxSteps = 4096;

// What a step does. Joins take values of one size, or constants.
enum class StepKind : std::uint32_t {
  kInt8 = 0,      // section: a packed network; each position is a row of it
  kFloat = 1,     // section: panels, then the bias (core/floats.h); clamp, then activation
  kActivate = 2,  // activation
  kClamp = 3,     // clamp
  kSlopes = 4,    // section: a slope per value of a sample
  kAffine = 5,    // section: a multiplier per value of a sample, then an offset
  kAdd = 6,       // and other joins of two
  kSubtract = 7,
  kMultiply = 8,
  kDivide = 9,
  kConcat = 10,     // of the last dimension; of one operand: a copy
  kSlice = 11,      // of the last dimension, from `begin` on
  kTranspose = 12,  // [positions, width] to [width, positions]
  kMean = 13,       // over positions
  kSum = 14,        // of each position's values
  kSoftmax = 15,
  kLogSoftmax = 16,
  kLayerNorm = 17,  // section: weight, then bias, or nothing; epsilon
  kArgMax = 18,     // int64; an output only
  kReshape = 19,    // the same numbers in other positions; nothing, but for inputs and outputs
};
inline constexpr StepKind kLastStepKind = StepKind::kReshape;

// What files and Python call them.
inline constexpr std::string_view kStepKindNames[] = {
    "int8",     "float",    "activate",    "clamp",      "slopes", "affine",    "add",
    "subtract", "multiply", "divide",      "concat",     "slice",  "transpose", "mean",
    "sum",      "softmax",  "log_softmax", "layer_norm", "argmax", "reshape"};
static_assert(std::size(kStepKindNames) == static_cast<std::size_t>(kLastStepKind) + 1);

enum class Place : std::uint32_t { kInput = 0, kOutput = 1, kConstant = 2, kScratch = 3 };

struct ValueRecord {
  std::uint32_t positions;
  std::uint32_t width;
  Place place;
  std::uint32_t index;   // of the input or output
  std::uint64_t offset;  // constants: bytes into the buffer; scratch: floats a sample
  std::uint64_t reserved;

  std::int64_t size() const { return static_cast<std::int64_t>(positions) * width; }
};
static_assert(sizeof(ValueRecord) == 32);

// What uint8 rows are: refused; used in place by int8 networks, the only ones that read them; or
// looked up, 256 floats a channel, and put into scratch memory.
struct InputRecord {
  std::uint32_t value;
  PixelKind pixels;
  std::uint32_t channels;
  std::uint32_t reserved;
  std::uint64_t table;    // bytes into the buffer
  std::uint64_t scratch;  // floats a sample
};
static_assert(sizeof(InputRecord) == 32);

struct StepRecord {
  StepKind kind;
  std::uint32_t value;
  std::uint32_t first_operand;
  std::uint32_t operands;
  std::uint64_t offset;  // of the section
  std::uint64_t bytes;   // of it, a multiple of 64
  Activation activation;
  Clamp clamp;
  float epsilon;
  std::uint32_t begin;
};
static_assert(sizeof(StepRecord) == 64);

struct GraphHeader {
  std::uint32_t magic;
  std::uint32_t version;
  std::uint64_t bytes;  // of the whole buffer
  std::uint32_t inputs;
  std::uint32_t values;
  std::uint32_t outputs;
  std::uint32_t steps;
  std::uint32_t operands;
  std::uint32_t reserved;
  std::uint64_t scratch;       // floats a sample
  std::uint64_t products;      // of a sample; at least 1
  std::uint64_t sample_bytes;  // of all values of one: scratch, inputs and outputs; at least 1
};
static_assert(sizeof(GraphHeader) == 64);

struct GraphSpec {
  struct Value {
    std::int64_t positions;
    std::int64_t width;
    const float* constant = nullptr;  // [positions * width], of one that is
  };
  struct Input {
    std::int64_t value;
    PixelKind pixels = PixelKind::kNone;
    std::int64_t channels = 0;
    const float* table = nullptr;  // [channels, 256]
  };
  struct Step {
    StepKind kind;
    std::vector<std::int64_t> operands;
    std::int64_t value;
    std::span<const std::byte> network = {};  // kInt8
    const float* weight = nullptr;  // kFloat: [outputs, inputs]; else the section's first table
    const float* bias = nullptr;    // kFloat: [outputs] or nullptr; else its second
    Activation activation{};
    Clamp clamp{};
    float epsilon = 0;
    std::int64_t begin = 0;
  };
  std::vector<Value> values;
  std::vector<Input> inputs;
  std::vector<Step> steps;
  std::vector<std::int64_t> outputs;  // values; each once, and no input
};

// A checked, non-owning look at a packed graph.
class FASTMNIST_API GraphView {
 public:
  const GraphHeader& header() const { return *header_; }
  std::span<const InputRecord> inputs() const { return {inputs_, header_->inputs}; }
  std::span<const ValueRecord> values() const { return {values_, header_->values}; }
  std::span<const std::uint32_t> outputs() const { return {outputs_, header_->outputs}; }
  std::span<const StepRecord> steps() const { return {steps_, header_->steps}; }
  std::span<const std::uint32_t> operands(const StepRecord& step) const {
    return {operands_ + step.first_operand, step.operands};
  }
  const ValueRecord& input(std::size_t i) const { return values_[inputs_[i].value]; }
  const ValueRecord& output(std::size_t i) const { return values_[outputs_[i]]; }
  // Of the i-th step, a kInt8.
  const NetworkView& network(std::size_t step) const { return networks_[step]; }
  const float* floats(std::uint64_t offset) const {
    return reinterpret_cast<const float*>(base_ + offset);
  }
  // Whether output i is indexes (int64), not floats.
  bool gives_indexes(std::size_t i) const;

 private:
  friend FASTMNIST_API Result<GraphView> view_graph(std::span<const std::byte> buffer);
  bool in_buffer(std::uint64_t offset, std::uint64_t bytes) const;
  bool in_scratch(std::uint64_t offset, std::int64_t floats) const;
  bool is_codes(std::uint32_t operand) const;
  Status find_tables(std::span<const std::byte> buffer);
  Status check_values() const;
  Status check_inputs() const;
  Status check_step(std::uint32_t i, std::span<const std::byte> buffer);
  Status check_flow() const;
  const std::byte* base_ = nullptr;
  const GraphHeader* header_ = nullptr;
  const InputRecord* inputs_ = nullptr;
  const ValueRecord* values_ = nullptr;
  const std::uint32_t* outputs_ = nullptr;
  const StepRecord* steps_ = nullptr;
  const std::uint32_t* operands_ = nullptr;
  std::vector<NetworkView> networks_;  // by step
};

// Whether the buffer begins as a graph does (and not as a network).
FASTMNIST_API bool is_graph(std::span<const std::byte> buffer);

// They name what is wrong with a graph or a buffer.
FASTMNIST_API Result<std::vector<std::byte>> pack_graph(const GraphSpec& spec);
FASTMNIST_API Result<GraphView> view_graph(std::span<const std::byte> buffer);

}  // namespace fastmnist
