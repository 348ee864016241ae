#include "runtime/plan.h"

#include <algorithm>
#include <span>
#include <string_view>

#include "core/caches.h"
#include "kernels/sizes.h"
#include "kernels/tables.h"

namespace fastmnist {
namespace {

constexpr std::int64_t kTilesFromRows = 3;
constexpr std::int64_t kFewestBlockRows = 16;
constexpr std::int64_t kFewInputs = 128;
// Blocks of 128 rows, fewer where their activations would leave the second-level cache, more where
// the weights do not fit there and are read anew for every block.
constexpr std::int64_t kRows = 128;
constexpr std::int64_t kFarBlockRows = 288;
std::int64_t activation_bytes() { return caches().l2 / 4; }
std::int64_t cached_weights() { return caches().l2 / 2; }
constexpr std::int64_t kSparseRows = 2;
// What beginning and ending a panel of picks costs, in bytes of dense weights near by.
constexpr std::int64_t kPickPanelBytes = 2048;

// By the bytes that must be read, or are as good as read: decoding a bitmask costs per block, and
// so do picks, whether weights come from near or far.
WeightForm ruled_form(const NetworkView& network, std::int64_t layer, std::int64_t rows) {
  if (rows > kSparseRows) return WeightForm::kDense;
  const LayerRecord& record = network.record(layer);
  const std::int64_t dense = kDenseLayout.read_bytes(0, record.inputs, record.outputs);
  const bool near = dense < cached_weights();
  WeightForm best = WeightForm::kDense;
  std::int64_t least = dense / 10 * 9;  // must be worth it
  for (int f = 1; f < kWeightForms; ++f) {
    const auto form = static_cast<WeightForm>(f);
    if (!is_sparse(form) || !network.has_form(layer, form)) continue;
    const std::int64_t bytes =
        layout_of(form).read_bytes(network.count(layer, form), record.inputs, record.outputs);
    std::int64_t cost = bytes;
    if (form == WeightForm::kBitmask)
      cost = near ? dense : std::max(bytes, dense / 5 * 2);
    else if (near)
      cost = 2 * bytes + kPickPanelBytes * panels_of(record.outputs);
    if (cost < least) best = form;
    least = std::min(least, cost);
  }
  return best;
}

bool has_plan(const KernelTable& kernels, const NetworkView& network) {
  const std::uint32_t isa = network.header().plan_isa;
  return isa != 0 && isa == static_cast<std::uint32_t>(rung_of(kernels)) + 1;
}

}  // namespace

const LinearKernel& ruled_kernel(const KernelTable& kernels, const NetworkView& network,
                                 std::int64_t layer, const LinearShape& shape) {
  const std::span<const LinearKernel> all(kernels.linears,
                                          static_cast<std::size_t>(kernels.linear_count));
  if (network.has_sparse(layer)) {
    const WeightForm form = ruled_form(network, layer, shape.rows);
    for (const LinearKernel& kernel : all)
      if (is_sparse(form) && kernel.form == form && (kernel.suits & kFewestRows) != 0 &&
          can(kernel, shape))
        return kernel;
  }
  const Suits wanted = shape.rows < kTilesFromRows                                    ? kFewestRows
                       : shape.rows <= kFewestBlockRows || shape.inputs <= kFewInputs ? kFewRows
                                                                                      : kManyRows;
  // Nibbles where there are some, for few rows: only layers that come from far away have them. With
  // many, reading weights is no longer what takes the time.
  const bool nibbles = network.has_form(layer, WeightForm::kNibbles) &&
                       (wanted != kManyRows || !network.has_form(layer, WeightForm::kDense));
  const auto reads = [&](const LinearKernel& kernel) {
    return !is_sparse(kernel.form) && nibbles == (kernel.form == WeightForm::kNibbles) &&
           network.has_form(layer, kernel.form) && can(kernel, shape);
  };
  // The set's own kernels come behind those of its base, so the last of them that suits; of one set
  // the first. (The first kernel of all is there for what none suits.)
  const LinearKernel* best = nullptr;
  for (const LinearKernel& kernel : all)
    if (reads(kernel) && (kernel.suits & wanted) != 0 &&
        (best == nullptr || best == all.data() || std::string_view(kernel.isa) != best->isa))
      best = &kernel;
  for (const LinearKernel& kernel : all)
    if (best == nullptr && reads(kernel)) best = &kernel;
  return best != nullptr ? *best : all.front();
}

PlanView::PlanView(const KernelTable& kernels, const NetworkView& network)
    : kernels_(kernels), network_(network), planned_(has_plan(kernels, network)) {}

const LinearKernel& PlanView::kernel(std::int64_t layer, const LinearShape& shape,
                                     bool threaded) const {
  const LayerRecord& record = network_.record(layer);
  if (planned_) {
    const int c = row_class(shape.rows);
    int planned = record.kernels[c];
    if (threaded && c >= kFirstThreadedClass && record.threaded[c - kFirstThreadedClass] != 0)
      planned = record.threaded[c - kFirstThreadedClass];
    if (planned >= 1 && planned <= kernels_.linear_count) {
      const LinearKernel& kernel = kernels_.linears[planned - 1];
      if (network_.has_form(layer, kernel.form) && can(kernel, shape)) return kernel;
    }
  }
  return ruled_kernel(kernels_, network_, layer, shape);
}

std::int64_t PlanView::block_rows() const {
  std::int64_t rows = kRows;
  if (planned_ && network_.header().block_rows != 0) {
    rows = network_.header().block_rows;
  } else {
    const std::int64_t weights = network_.products_per_row();
    const std::int64_t fit = activation_bytes() / (2 * network_.widest());
    rows = weights > cached_weights() ? kFarBlockRows : std::min(kRows, fit);
  }
  return std::clamp(rows / kBlockRowsStep * kBlockRowsStep, kBlockRowsStep, kMaxBlockRows);
}

PlanView::Needs PlanView::needs(std::int64_t rows, bool threaded) const {
  Needs needs;
  for (int c = row_class(rows); c >= 0; --c)
    for (std::int64_t i = 0; i < network_.layers(); ++i) {
      const LinearShape shape =
          shape_of(network_, i, c == row_class(rows) ? rows : kRowsOfClass[c]);
      const LinearKernel& chosen = kernel(i, shape, threaded);
      if (chosen.unit != nullptr) needs.unit = chosen.unit;
      needs.scratch_bytes = std::max(needs.scratch_bytes, scratch_bytes(chosen, shape));
    }
  return needs;
}

}  // namespace fastmnist
