#include "runtime/linear.h"

#include "runtime/scratch.h"

namespace fastmnist {

void run_single_linear(const KernelTable& kernels, LinearOutput output, LinearArgs args) {
  if (args.rows == 0) return;
  const TileKernels* tiles = args.rows >= kTilesFromRows ? kernels.tiles : nullptr;
  const ScratchLease scratch(
      nullptr, tiles != nullptr ? linear_scratch_bytes(kernels, args.w.padded_inputs) : 64);
  args.scratch = scratch.get();
  const TileGuard guard(tiles);
  run_linear(kernels, tiles, output, args);
}

}  // namespace fastmnist
