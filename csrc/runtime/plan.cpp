#include "runtime/plan.h"

#include <algorithm>

#include "kernels/sizes.h"
#include "kernels/tables.h"

namespace fastmnist {
namespace {

constexpr std::int64_t kTilesFromRows = 3;
constexpr std::int64_t kFewRows = 16;
constexpr std::int64_t kFewInputs = 128;
// Blocks of 96 rows, fewer where their activations would leave the second-level cache, more where
// the weights do not fit there and are read anew for every block.
constexpr std::int64_t kRows = 128;
constexpr std::int64_t kManyRows = 288;
constexpr std::int64_t kActivationBytes = 512 * 1024;
constexpr std::int64_t kCachedWeights = 1024 * 1024;
constexpr std::int64_t kSparseRows = 2;
// What beginning and ending a panel of picks costs, in bytes of dense weights near by.
constexpr std::int64_t kPickPanelBytes = 2048;

// By the bytes that must be read, or are as good as read: decoding a bitmask costs per block, and
// so do picks, whether weights come from near or far.
WeightForm ruled_form(const NetworkView& network, std::int64_t layer, std::int64_t rows) {
  if (rows > kSparseRows) return WeightForm::kDense;
  const LayerRecord& record = network.record(layer);
  const SparseSizes sizes = network.sparse_sizes(layer);
  const std::int64_t dense = packed_dense_bytes(record.inputs, record.outputs);
  const bool near = dense < kCachedWeights;
  WeightForm form = WeightForm::kDense;
  std::int64_t least = dense / 10 * 9;  // must be worth it
  if (sizes.bitmask && !near) {
    const std::int64_t cost = std::max(dense / 8 + sizes.values, dense / 5 * 2);
    if (cost < least) form = WeightForm::kBitmask;
    least = std::min(least, cost);
  }
  if (sizes.picks) {
    const std::int64_t panels = panels_of(record.outputs);
    const std::int64_t bytes = sizes.pick_blocks * kPickBlockBytes;
    if ((near ? 2 * bytes + kPickPanelBytes * panels : bytes) < least) form = WeightForm::kPicks;
  }
  return form;
}

bool has_plan(const KernelTable& kernels, const NetworkView& network) {
  const std::uint32_t isa = network.header().plan_isa;
  return isa != 0 && isa == static_cast<std::uint32_t>(rung_of(kernels)) + 1;
}

}  // namespace

const LinearKernel& ruled_kernel(const KernelTable& kernels, const NetworkView& network,
                                 std::int64_t layer, std::int64_t rows) {
  const LayerRecord& record = network.record(layer);
  if (record.sparse_bytes != 0) {
    const WeightForm form = ruled_form(network, layer, rows);
    for (int i = 0; form != WeightForm::kDense && i < kernels.linear_count; ++i)
      if (kernels.linears[i].form == form && !kernels.linears[i].tiles) return kernels.linears[i];
  }
  const auto wanted = rows < kTilesFromRows ? LinearKernel::Suits::kAnyRows
                      : rows <= kFewRows || record.inputs <= kFewInputs
                          ? LinearKernel::Suits::kFewRows
                          : LinearKernel::Suits::kManyRows;
  for (int i = 0; i < kernels.linear_count; ++i)
    if (kernels.linears[i].form == WeightForm::kDense && kernels.linears[i].suits == wanted)
      return kernels.linears[i];
  return kernels.linears[0];
}

PlanView::PlanView(const KernelTable& kernels, const NetworkView& network)
    : kernels_(kernels), network_(network), planned_(has_plan(kernels, network)) {}

const LinearKernel& PlanView::kernel(std::int64_t layer, std::int64_t rows, bool threaded) const {
  const LayerRecord& record = network_.record(layer);
  if (planned_) {
    const int c = row_class(rows);
    int planned = record.kernels[c];
    if (threaded && c >= kFirstThreadedClass && record.threaded[c - kFirstThreadedClass] != 0)
      planned = record.threaded[c - kFirstThreadedClass];
    if (planned >= 1 && planned <= kernels_.linear_count) {
      const LinearKernel& kernel = kernels_.linears[planned - 1];
      if (network_.has_form(layer, kernel.form)) return kernel;
    }
  }
  return ruled_kernel(kernels_, network_, layer, rows);
}

std::int64_t PlanView::block_rows() const {
  std::int64_t rows = kRows;
  if (planned_ && network_.header().block_rows != 0) {
    rows = network_.header().block_rows;
  } else {
    const std::int64_t weights = network_.products_per_row();
    const std::int64_t fit = kActivationBytes / (2 * network_.widest());
    rows = weights > kCachedWeights ? kManyRows : std::min(kRows, fit);
  }
  return std::clamp(rows / kBlockRowsStep * kBlockRowsStep, kBlockRowsStep, kMaxBlockRows);
}

bool PlanView::needs_tiles(std::int64_t rows, bool threaded) const {
  if (kernels_.tiles == nullptr) return false;
  // The largest first: blocks of that class come first, smaller ones are what is left over.
  for (int c = row_class(rows); c >= 0; --c)
    for (std::int64_t i = 0; i < network_.layers(); ++i)
      if (kernel(i, c < kRowClasses - 1 ? kRowsOfClass[c] : rows, threaded).tiles) return true;
  return false;
}

}  // namespace fastmnist
