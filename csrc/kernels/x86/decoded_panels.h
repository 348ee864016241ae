// Many rows on nibbles, by a kernel for dense weights: groups of panels are decoded into scratch
// memory, and all rows pass over each. A weight is decoded once, which costs little beside some
// dozens of rows of products.
//
//     nibbles  -- decode -->  [ dense panels of one group | the dense kernel's scratch ]
//
// In an anonymous namespace, as kernel files need it.
#pragma once

#include <cstring>

#include "core/types.h"
#include "kernels/dense_lead.h"
#include "kernels/sizes.h"

namespace fastmnist {
namespace {

// A group stays in a second-level cache, beside rows.
constexpr std::int64_t kDecodedGroupBytes = 256 * 1024;

struct DecodedGroup {
  std::int64_t lead, stride, panels, bytes;

  DecodedGroup(std::int64_t inputs, std::int64_t outputs) {
    lead = lead_of(inputs);
    stride = lead + round_up(inputs, kInputPadding) * kPanelOutputs;
    const std::int64_t fit = kDecodedGroupBytes / stride;
    const std::int64_t all = panels_of(outputs);
    panels = fit < 2 ? 2 : fit / 2 * 2;
    panels = panels < all ? panels : all;
    bytes = panels * stride;
  }
};

inline std::int64_t decoded_scratch(const LinearShape& shape, const LinearKernel& dense) {
  const DecodedGroup group(shape.inputs, shape.outputs);
  LinearShape part = shape;
  part.outputs =
      shape.outputs < group.panels * kPanelOutputs ? shape.outputs : group.panels * kPanelOutputs;
  return group.bytes + (dense.scratch_bytes != nullptr ? dense.scratch_bytes(part) : 0);
}

// decode(panel, to) writes the dense blocks of a panel.
template <typename Decode>
inline void by_decoded_panels(const LinearArgs& args, void (*linear)(const LinearArgs&),
                              std::int64_t value_bytes, const Decode& decode) {
  const DecodedGroup group(args.w.inputs, args.w.outputs);
  auto* const scratch = static_cast<std::byte*>(args.scratch);
  LinearArgs part = args;
  part.w.dense = {scratch + group.lead, group.stride};
  part.scratch = scratch + group.bytes;
  part.prefetch_bytes = 0;
  const std::int64_t all = panels_of(args.w.outputs);
  for (std::int64_t panel = 0; panel < all; panel += group.panels) {
    const std::int64_t first = panel * kPanelOutputs;
    const std::int64_t left = args.w.outputs - first;
    const std::int64_t outputs = group.panels * kPanelOutputs;
    part.w.outputs = left < outputs ? left : outputs;
    part.w.epilogues = args.w.epilogues + panel * args.w.epilogue_stride;
    part.y = static_cast<std::byte*>(args.y) + first * value_bytes;
    for (std::int64_t p = 0; p < panels_of(part.w.outputs); ++p) {
      std::byte* const to = scratch + p * group.stride;
      if (group.lead != 0) std::memset(to, 0, static_cast<std::size_t>(group.lead));
      decode(panel + p, to + group.lead);
    }
    linear(part);
  }
}

}  // namespace
}  // namespace fastmnist
