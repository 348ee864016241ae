// One layer by one kernel, and the unit around it.
#pragma once

#include <cstdint>

#include "core/export.h"
#include "core/status.h"
#include "core/types.h"
#include "pack/network.h"

namespace fastmnist {

// Sets a kernel's unit up on this thread and releases it on every way out: a configuration left
// behind breaks other libraries' kernels on the same thread. Does nothing without a unit.
class UnitGuard {
 public:
  explicit UnitGuard(const Unit* unit) : unit_(unit) {
    if (unit_ != nullptr) unit_->enter();
  }
  UnitGuard(const UnitGuard&) = delete;
  UnitGuard& operator=(const UnitGuard&) = delete;
  ~UnitGuard() {
    if (unit_ != nullptr) unit_->leave();
  }

 private:
  const Unit* unit_;
};

// Rows of codes, or of pixels in place.
struct CodeRows {
  const std::uint8_t* data;
  std::int64_t stride;
  const std::uint8_t* begin;  // of what may be read around them
  const std::uint8_t* end;
};

// Layer i, its weights in that form, on `rows` rows of codes with its own quantizer, to floats in
// y. What else there may be (row_quantizers, y_quantizer, scratch, ...) is the caller's to set.
FASTMNIST_API LinearArgs make_args(const NetworkView& network, std::int64_t i, WeightForm form,
                                   const CodeRows& x, std::int64_t rows, void* y,
                                   std::int64_t y_stride);

// What layer i + 1 takes instead of floats.
inline void give_codes(const NetworkView& network, std::int64_t i, LinearArgs& args) {
  args.y_quantizer = network.record(i + 1).x_quantizer;
  args.y_bounded = network.record(i).y_bounded != 0;
}

// What layer i is for a kernel.
inline LinearShape shape_of(const NetworkView& network, std::int64_t i, std::int64_t rows,
                            bool codes_out) {
  const LayerRecord& record = network.record(i);
  return {rows,
          record.inputs,
          record.outputs,
          codes_out,
          network.input() == InputKind::kDynamic,
          static_cast<int>(record.most_weight)};
}

// What it is in a run of the whole network.
inline LinearShape shape_of(const NetworkView& network, std::int64_t i, std::int64_t rows) {
  // A function stands between two layers of codes: on floats.
  const bool codes = i + 1 < network.layers() && network.input() != InputKind::kDynamic &&
                     !network.has_function(i);
  return shape_of(network, i, rows, codes);
}

inline bool can(const LinearKernel& kernel, const LinearShape& shape) {
  return kernel.can == nullptr || kernel.can(shape);
}

inline std::int64_t scratch_bytes(const LinearKernel& kernel, const LinearShape& shape) {
  return kernel.scratch_bytes != nullptr ? kernel.scratch_bytes(shape) : 0;
}

enum class LinearOutput { kFloats, kCodes };

// Around a kernel with a unit there must be a UnitGuard.
inline void run_linear(const LinearKernel& kernel, LinearOutput output, const LinearArgs& args) {
  (output == LinearOutput::kCodes ? kernel.linear_u8 : kernel.linear_f32)(args);
}

// One layer on its own: sets its unit up and releases it, splits many rows over threads. Where a
// thread finds no memory, its rows are not written.
FASTMNIST_API Status run_single_linear(const LinearKernel& kernel, LinearOutput output,
                                       const LinearArgs& args);

}  // namespace fastmnist
