// A whole packed network in one buffer, the form in which torch operators receive it.
//
//     +--------+----------------+------------------------+----------------+-------------+- ...
//     | header | layer records  | input tables (if any)  | layer 0: its   | its other   | layer 1
//     | 64 B   | 256 B each     | multiplier and offset, | dense section, | sections,   |
//     |        |                | or 256 floats a channel| core/layouts.h | if any      |
//     +--------+----------------+------------------------+----------------+-------------+- ...
//
// Everything starts at a multiple of 64 bytes. The buffer is made and read on one machine and never
// saved. It may still come from anywhere (an operator takes any uint8 tensor), so view_network
// checks every size and offset before anything is read through it: foreign bytes give an error or
// wrong numbers, never an access outside the buffer. The check is O(layers).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/export.h"
#include "core/status.h"
#include "core/types.h"
#include "pack/layouts.h"
#include "pack/row_classes.h"

namespace fastmnist {

inline constexpr std::uint32_t kPackedVersion = 9;
inline constexpr std::uint32_t kMaxLayers = 1024;

// How float rows become codes.
enum class InputKind : std::uint32_t {
  kStatic = 0,   // one scale and zero point: the first layer's x_quantizer
  kAffine = 1,   // multiplier and offset per feature, folded into the first layer
  kDynamic = 2,  // scale and zero point per row, at every layer
};

// What uint8 rows are. Between layers codes have no public meaning; from outside uint8 is pixels.
enum class PixelKind : std::uint32_t {
  kNone = 0,   // refused
  kCodes = 1,  // a pixel is its code: used in place
  kTable = 2,  // dynamic: 256 floats per channel give the pixel's real value
};

struct NetworkHeader {
  std::uint32_t magic;
  std::uint32_t version;
  std::uint64_t bytes;  // of the whole buffer
  std::uint32_t layers;
  InputKind input;
  PixelKind pixels;
  std::uint32_t channels;      // of the pixel table
  std::uint64_t input_offset;  // of the input tables
  // The plan, where there is one (runtime/plan.h).
  std::uint32_t plan_isa;    // 1 + rung of the ladder that it was made for; 0: no plan
  std::uint32_t block_rows;  // rows that go through all layers together
  std::uint64_t reserved[2];
};
static_assert(sizeof(NetworkHeader) == 64);

struct LayerRecord {
  std::uint32_t inputs;
  std::uint32_t outputs;
  Quantizer x_quantizer;
  Clamp clamp;
  // Whether no output, divided by the next layer's scale, reaches 2^30 whatever the codes are.
  std::uint32_t y_bounded;
  // The plan: 1 + the index of the kernel per class of rows, 0 where the rule decides; and where
  // several threads share the rows, in the classes that a share may have, 0 where that is the same.
  std::uint8_t threaded[4];
  std::uint8_t kernels[kRowClasses];
  std::uint32_t most_weight;  // the largest magnitude of a weight
  // Where the layer's sections lie, by form; no bytes: the layer does not have that form.
  struct {
    std::uint64_t offset;
    std::uint64_t bytes;
  } forms[kWeightForms];
  // Behind them [inputs] bytes, where that is known: CanonicalLayer::input_zeros.
  std::uint64_t zeros_offset;
  std::uint64_t zeros_bytes;
  Activation activation;  // after the clamp
  std::uint64_t reserved[6];
};
static_assert(sizeof(LayerRecord) == 256);

struct NetworkSpec {
  std::vector<CanonicalLayer> layers;
  std::vector<std::vector<FormSize>> forms;  // per layer those beside the dense one; or empty
  InputKind input = InputKind::kStatic;
  PixelKind pixels = PixelKind::kNone;
  const float* multiplier = nullptr;   // [inputs], kAffine
  const float* offset = nullptr;       // [inputs], kAffine
  const float* pixel_table = nullptr;  // [channels, 256], kTable
  std::int64_t channels = 0;
};

// A checked, non-owning look at a packed network.
class FASTMNIST_API NetworkView {
 public:
  std::int64_t layers() const { return header_->layers; }
  std::int64_t inputs() const { return records_[0].inputs; }
  std::int64_t outputs() const { return records_[header_->layers - 1].outputs; }
  InputKind input() const { return header_->input; }
  PixelKind pixels() const { return header_->pixels; }
  std::int64_t channels() const { return header_->channels; }
  const NetworkHeader& header() const { return *header_; }
  const LayerRecord& record(std::int64_t i) const { return records_[i]; }
  bool has_form(std::int64_t i, WeightForm form) const {
    return records_[i].forms[static_cast<int>(form)].bytes != 0;
  }
  bool has_function(std::int64_t i) const {
    return records_[i].activation.function != Function::kNone;
  }
  bool has_sparse(std::int64_t i) const;
  // Values or blocks of a form that the layer has (WeightLayout::count).
  std::int64_t count(std::int64_t i, WeightForm form) const;
  // In how many of kZerosOf rows each input's code is 0; empty where that is not known.
  std::span<const std::uint8_t> input_zeros(std::int64_t i) const;
  // As kernels of a form that the layer has take them.
  Weights weights(std::int64_t i, WeightForm form) const;
  const float* tables() const {
    return reinterpret_cast<const float*>(base_ + header_->input_offset);
  }
  std::int64_t products_per_row() const;
  std::int64_t widest() const;  // of all inputs and outputs

 private:
  std::span<const std::byte> section(std::int64_t i, WeightForm form) const {
    const auto& place = records_[i].forms[static_cast<int>(form)];
    return {base_ + place.offset, static_cast<std::size_t>(place.bytes)};
  }

  friend FASTMNIST_API Result<NetworkView> view_network(std::span<const std::byte> buffer);
  const std::byte* base_ = nullptr;
  const NetworkHeader* header_ = nullptr;
  const LayerRecord* records_ = nullptr;
};

// They name what is wrong with a network or a buffer.
FASTMNIST_API Result<std::int64_t> packed_network_bytes(const NetworkSpec& spec);
FASTMNIST_API Status pack_network(const NetworkSpec& spec, std::span<std::byte> buffer);
FASTMNIST_API Result<NetworkView> view_network(std::span<const std::byte> buffer);

}  // namespace fastmnist
