// Picks between an instruction set's row kernels and its tile kernels, and sets tiles up.
#pragma once

#include <cstdint>

#include "core/export.h"
#include "core/types.h"

namespace fastmnist {

// Tiles take 16 rows at a time whatever there is: below this many rows the row kernels win
// (784-96-256-10 from Python, medians: 3 rows 2.80 µs by rows and 2.76 by tiles, 4 rows 3.28 and
// 2.68).
inline constexpr std::int64_t kTilesFromRows = 3;

// Sets the tile unit up on this thread and releases it on every way out: a configuration left
// behind breaks other libraries' kernels on the same thread. Does nothing without tile kernels.
class TileGuard {
 public:
  explicit TileGuard(const TileKernels* tiles) : tiles_(tiles) {
    if (tiles_ != nullptr) tiles_->enter();
  }
  TileGuard(const TileGuard&) = delete;
  TileGuard& operator=(const TileGuard&) = delete;
  ~TileGuard() {
    if (tiles_ != nullptr) tiles_->leave();
  }

 private:
  const TileKernels* tiles_;
};

// Bytes of scratch memory that run_linear may need for a layer with so many inputs.
inline std::int64_t linear_scratch_bytes(const KernelTable& kernels, std::int64_t padded_inputs) {
  return kernels.tiles != nullptr ? kernels.tiles->scratch_bytes(padded_inputs) : 0;
}

enum class LinearOutput { kFloats, kCodes };

// Tiles must be set up (TileGuard) where `tiles` is not nullptr; without them, by rows.
inline void run_linear(const KernelTable& kernels, const TileKernels* tiles, LinearOutput output,
                       const LinearArgs& args) {
  const bool codes = output == LinearOutput::kCodes;
  if (tiles != nullptr)
    (codes ? tiles->linear_u8 : tiles->linear_f32)(args);
  else
    (codes ? kernels.linear_u8 : kernels.linear_f32)(args);
}

// One layer on its own: chooses by the number of rows, sets up and releases.
FASTMNIST_API void run_single_linear(const KernelTable& kernels, LinearOutput output,
                                     LinearArgs args);

}  // namespace fastmnist
