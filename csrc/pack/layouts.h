// The table of forms in which weights are packed (drawn in core/layouts.h), one row a file:
//
//     dense      dense.cpp      what every layer has
//     bounded    bounded.cpp    dense in pairs that cannot saturate, for AVX2
//     int16      int16.cpp      dense in 16 bits, for AVX2 and layers that stay near
//     nibbles    nibbles.cpp    4 bits a weight, where there are at most 16 values
//     bitmask    bitmask.cpp    sparse, costs per block
//     picks      picks.cpp      sparse, costs per non-zero weight, for AVX-512
//     windows32  picks.cpp      the same for AVX2
//     windows64  picks.cpp      and where most are zero
//
// A form lies in a section of its own that begins at a multiple of 64 bytes. All but the dense one
// say in their first 64 bytes how large they are:
//
//     +--------+-------------------+---------------------------+
//     | header | epilogues         | what the form holds       |
//     | 64 B   | 192 B a panel     |                           |
//     +--------+-------------------+---------------------------+
//
// Packing costs about one pass over the weights and is done once, at load or quantization time;
// what it takes is counted before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/export.h"
#include "core/types.h"
#include "pack/layer.h"

namespace fastmnist {

struct WeightLayout {
  WeightForm form;
  // It may be worth trying where calls read at most that share of dense bytes, and so many in all.
  std::int64_t most_percent;
  std::int64_t most_bytes;
  // What its size depends on beside the shape: values that are not zero, blocks, rests; nullptr: on
  // nothing, and the count is 0.
  std::int64_t (*count)(const CanonicalLayer& layer);
  // Of the section; a multiple of 64.
  std::int64_t (*bytes)(std::int64_t count, std::int64_t inputs, std::int64_t outputs);
  // Of weights that a call reads.
  std::int64_t (*read_bytes)(std::int64_t count, std::int64_t inputs, std::int64_t outputs);
  // Fills the section.
  void (*pack)(const CanonicalLayer& layer, std::int64_t count, std::byte* section);
  // What kernels read.
  Weights (*view)(const std::byte* section, std::int64_t count, std::int64_t inputs,
                  std::int64_t outputs);
  // Whether a layer can have it; nullptr: any.
  bool (*fits)(const CanonicalLayer& layer) = nullptr;
  // Worth trying only where dense weights would come from beyond the second-level cache.
  bool only_far = false;
};

FASTMNIST_API const WeightLayout& layout_of(WeightForm form);

// A form that a layer is to have, and its count.
struct FormSize {
  WeightForm form;
  std::int64_t count;
};

inline FormSize size_in(WeightForm form, const CanonicalLayer& layer) {
  const WeightLayout& layout = layout_of(form);
  return {form, layout.count != nullptr ? layout.count(layer) : 0};
}

// Bytes of the section of a layer in that form.
inline std::int64_t bytes_of(const FormSize& size, std::int64_t inputs, std::int64_t outputs) {
  return layout_of(size.form).bytes(size.count, inputs, outputs);
}

// Those of `wanted` that may be worth trying (WeightLayout::most_percent, most_bytes); sparse ones
// not before a quarter of the weights is zero.
FASTMNIST_API std::vector<FormSize> forms_worth_trying(const CanonicalLayer& layer,
                                                       std::span<const WeightForm> wanted);

// The count that a section in this form says it has; -1 where it does not fit its bytes.
FASTMNIST_API std::int64_t checked_count(WeightForm form, std::span<const std::byte> section,
                                         std::int64_t inputs, std::int64_t outputs);

inline bool can_have(WeightForm form, const CanonicalLayer& layer) {
  const WeightLayout& layout = layout_of(form);
  return layout.fits == nullptr || layout.fits(layer);
}

// The reverse of packing in the dense form, or as nibbles: weights [outputs, inputs], scales and
// biases [outputs].
FASTMNIST_API void unpack(WeightForm form, const Weights& packed, std::int8_t* weight,
                          float* weight_scale, float* bias);

// ---- for the files of the forms -----------------------------------------------------------------

extern const WeightLayout kDenseLayout;
extern const WeightLayout kBoundedLayout;
extern const WeightLayout kInt16Layout;
extern const WeightLayout kNibblesLayout;
extern const WeightLayout kBitmaskLayout;
extern const WeightLayout kPicksLayout;
extern const WeightLayout kWindowsLayout;
extern const WeightLayout kWideWindowsLayout;

// All weights of a view; for unpack().
void unpack_dense(const Weights& packed, std::int8_t* weight);
void unpack_nibbles(const Weights& packed, std::int8_t* weight);

inline constexpr std::int64_t kAnyPercent = 1000;
inline constexpr std::int64_t kAnyBytes = std::int64_t{1} << 62;
// A sparse form must make calls read much less than dense weights do.
inline constexpr std::int64_t kMostSparsePercent = 80;

struct SectionHeader {
  std::uint64_t count;
  std::uint64_t reserved[7];
};
static_assert(sizeof(SectionHeader) == 64);

// Pieces of a section, one after the other, each at a multiple of 64: first header and epilogues.
class Pieces {
 public:
  explicit Pieces(std::int64_t outputs);
  std::int64_t take(std::int64_t bytes);
  std::int64_t bytes() const { return at_; }
  static constexpr std::int64_t kEpilogues = sizeof(SectionHeader);

 private:
  std::int64_t at_;
};

// Writes them; the rest of the section becomes zero.
void begin_section(const CanonicalLayer& layer, std::int64_t count, std::int64_t bytes,
                   std::byte* section);

// A view with what all of them have.
Weights begin_view(const std::byte* section, std::int64_t inputs, std::int64_t outputs);

// What follows the blocks of panel p, to be filled for its outputs.
void write_epilogue(const CanonicalLayer& layer, std::int64_t panel, PanelEpilogue& epilogue);

}  // namespace fastmnist
