#include "runtime/plan.h"

#include <algorithm>

#include "kernels/tables.h"

namespace fastmnist {
namespace {

constexpr std::int64_t kTilesFromRows = 3;
constexpr std::int64_t kFewRows = 16;
constexpr std::int64_t kFewInputs = 128;
// Blocks of 96 rows, fewer where their activations would leave the second-level cache, more where
// the weights do not fit there and are read anew for every block.
constexpr std::int64_t kRows = 96;
constexpr std::int64_t kManyRows = 288;
constexpr std::int64_t kActivationBytes = 512 * 1024;
constexpr std::int64_t kCachedWeights = 1024 * 1024;

bool has_plan(const KernelTable& kernels, const NetworkView& network) {
  const std::uint32_t isa = network.header().plan_isa;
  return isa != 0 && isa == static_cast<std::uint32_t>(rung_of(kernels)) + 1;
}

}  // namespace

const LinearKernel& ruled_kernel(const KernelTable& kernels, std::int64_t inputs,
                                 std::int64_t rows) {
  const auto wanted = rows < kTilesFromRows                      ? LinearKernel::Suits::kAnyRows
                      : rows <= kFewRows || inputs <= kFewInputs ? LinearKernel::Suits::kFewRows
                                                                 : LinearKernel::Suits::kManyRows;
  for (int i = 0; i < kernels.linear_count; ++i)
    if (kernels.linears[i].suits == wanted) return kernels.linears[i];
  return kernels.linears[0];
}

const LinearKernel& planned_kernel(const KernelTable& kernels, const NetworkView& network,
                                   std::int64_t layer, std::int64_t rows) {
  const LayerRecord& record = network.record(layer);
  if (has_plan(kernels, network)) {
    const int planned = record.kernels[row_class(rows)];
    if (planned >= 1 && planned <= kernels.linear_count) return kernels.linears[planned - 1];
  }
  return ruled_kernel(kernels, record.inputs, rows);
}

std::int64_t planned_block_rows(const KernelTable& kernels, const NetworkView& network) {
  std::int64_t rows = kRows;
  if (has_plan(kernels, network) && network.header().block_rows != 0) {
    rows = network.header().block_rows;
  } else {
    std::int64_t weights = 0;
    for (std::int64_t i = 0; i < network.layers(); ++i)
      weights += static_cast<std::int64_t>(network.record(i).inputs) * network.record(i).outputs;
    const std::int64_t fit = kActivationBytes / (2 * network.widest());
    rows = weights > kCachedWeights ? kManyRows : std::min(kRows, fit);
  }
  return std::clamp(rows / kBlockRowsStep * kBlockRowsStep, kBlockRowsStep, kMaxBlockRows);
}

}  // namespace fastmnist
