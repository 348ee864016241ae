// One layer by one kernel, and the tile unit around it.
#pragma once

#include <cstdint>

#include "core/export.h"
#include "core/types.h"
#include "pack/network.h"

namespace fastmnist {

// Sets the tile unit up on this thread and releases it on every way out: a configuration left
// behind breaks other libraries' kernels on the same thread. Does nothing without a unit.
class TileGuard {
 public:
  explicit TileGuard(const TileUnit* unit) : unit_(unit) {
    if (unit_ != nullptr) unit_->enter();
  }
  TileGuard(const TileGuard&) = delete;
  TileGuard& operator=(const TileGuard&) = delete;
  ~TileGuard() {
    if (unit_ != nullptr) unit_->leave();
  }

 private:
  const TileUnit* unit_;
};

// Rows of codes, or of pixels in place.
struct CodeRows {
  const std::uint8_t* data;
  std::int64_t stride;
  std::int64_t readable;
  std::int64_t before;  // codes before them that may be read, too
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

// Bytes of scratch memory that a kernel of the table may need for a layer with so many inputs.
inline std::int64_t linear_scratch_bytes(const KernelTable& kernels, std::int64_t padded_inputs,
                                         bool sparse) {
  return kernels.tiles != nullptr ? kernels.tiles->scratch_bytes(padded_inputs, sparse) : 0;
}

enum class LinearOutput { kFloats, kCodes };

// Around a kernel that needs tiles there must be a TileGuard.
inline void run_linear(const LinearKernel& kernel, LinearOutput output, const LinearArgs& args) {
  (output == LinearOutput::kCodes ? kernel.linear_u8 : kernel.linear_f32)(args);
}

// One layer on its own: sets tiles up and releases them, splits many rows over threads.
FASTMNIST_API void run_single_linear(const KernelTable& kernels, const LinearKernel& kernel,
                                     LinearOutput output, const LinearArgs& args);

}  // namespace fastmnist
