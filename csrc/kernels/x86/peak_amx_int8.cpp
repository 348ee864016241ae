// Probe of the AMX kernels: TDPBUSD on four accumulator tiles, 16,384 products an instruction, its
// operands loaded from L1, each used twice, as in a kernel. The loads hide behind the products.
//
// The unit can be slower on random bytes than on zeros, so the limit is measured with both. Reads
// and float32 are AVX-512's: AMX has nothing of its own for them.
#include "core/types.h"
#include "kernels/peak.h"
#include "kernels/x86/amx_tile.h"

namespace fastmnist {
namespace {

constexpr std::int64_t kTile = 16 * 64;
static_assert(kPeakOperandBytes % (4 * kTile) == 0);

std::int64_t products(const std::byte* operands, std::int64_t rounds) {
  tile_configure();
  tile_zero<0>();
  tile_zero<1>();
  tile_zero<2>();
  tile_zero<3>();
  for (std::int64_t r = 0; r < rounds; ++r) {
    const std::byte* step = operands + (r * 4 * kTile) % kPeakOperandBytes;
    tile_load<4>(step, 64);
    tile_load<6>(step + kTile, 64);
    tile_multiply<0, 4, 6>();
    tile_load<7>(step + 2 * kTile, 64);
    tile_multiply<1, 4, 7>();
    tile_load<5>(step + 3 * kTile, 64);
    tile_multiply<2, 5, 6>();
    tile_multiply<3, 5, 7>();
  }
  tile_release();
  return rounds * 4 * 16 * 16 * 64;
}

}  // namespace

extern const PeakProbe kAmxInt8Peak;
const PeakProbe kAmxInt8Peak = {products, nullptr, nullptr};

}  // namespace fastmnist
