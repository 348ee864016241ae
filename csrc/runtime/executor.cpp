#include "runtime/executor.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "core/caches.h"
#include "core/threads.h"
#include "kernels/sizes.h"
#include "kernels/tables.h"
#include "runtime/block.h"
#include "runtime/linear.h"
#include "runtime/plan.h"
#include "runtime/shares.h"

namespace fastmnist {
namespace {

// Whether so many bytes of rows are more than a second-level cache may still hold: if not, asking
// for them early is a waste.
bool are_far(std::int64_t row_bytes) { return row_bytes > caches().l2 / 8 * 5; }

struct Job {
  const Block& block;
  std::byte* scratch;  // one piece per thread slot
  std::int64_t scratch_stride;
  std::int64_t scratch_rows;
  std::atomic<std::int64_t>* next_scratch;
};

void run_range(void* context, std::int64_t begin, std::int64_t end) {
  const Job& job = *static_cast<const Job*>(context);
  // Each running range takes a piece of scratch memory of its own.
  const std::int64_t slot = job.next_scratch->fetch_add(1, std::memory_order_relaxed);
  const BlockScratch scratch(job.block.network, job.scratch_rows, job.block.kernel_bytes,
                             job.scratch + slot * job.scratch_stride);
  const UnitGuard guard(job.block.unit);
  for (std::int64_t first = begin; first < end; first += job.scratch_rows)
    run_block(job.block, scratch, first, std::min(job.scratch_rows, end - first), end);
}

}  // namespace

Status no_pixels(const std::string& name) {
  return Status::invalid(
      name,
      "float32 rows, as this model does not know what a uint8 pixel stands for: calibrate on "
      "pixels, or give mean= and std=, or pixels=\"0..255\", when quantizing",
      "uint8");
}

Status check_rows(const NetworkView& network, RowType type) {
  if (type == RowType::kPixels && network.pixels() == PixelKind::kNone) return no_pixels("x");
  return {};
}

Status run_network(const NetworkView& network, const Rows& rows, float* logits, ScratchPool* pool,
                   int max_threads) {
  if (Status bad = check_rows(network, rows.type); !bad.ok()) return bad;
  if (rows.count == 0) return {};
  Result<const KernelTable*> active = active_kernels();
  if (!active.ok()) return std::move(active).status();
  const KernelTable& kernels = **active;
  const PlanView plan(kernels, network);
  const std::int64_t block = std::min(plan.block_rows(), round_up(rows.count, kBlockRowsStep));
  // Shares are for kernels that use a unit, or not; and which kernels serve depends on the shares.
  const std::int64_t rows_at_once = std::min(rows.count, block);
  PlanView::Needs needs = plan.needs(rows_at_once);
  Result<Shares> shares =
      shares_of(rows.count, network.products_per_row(), needs.unit != nullptr, max_threads);
  if (!shares.ok()) return std::move(shares).status();
  const auto [grain, chunks] = *shares;
  const bool threaded = chunks > 1;
  if (threaded) {
    const PlanView::Needs shared = plan.needs(rows_at_once, threaded);
    if (shared.unit != nullptr) needs.unit = shared.unit;
    needs.scratch_bytes = std::max(needs.scratch_bytes, shared.scratch_bytes);
  }
  const std::int64_t piece =
      aligned(BlockScratch(network, block, needs.scratch_bytes, nullptr).bytes());
  const ScratchLease scratch(pool, piece * chunks);
  if (!scratch.ok()) return Status::out_of_memory();
  std::atomic<std::int64_t> next_scratch{0};
  const std::int64_t value = rows.type == RowType::kPixels ? 1 : sizeof(float);
  const bool rows_far = rows.count > block && are_far(rows.count * network.inputs() * value);
  const Block rows_of{network,  kernels, plan,   needs.unit,         threaded,
                      rows_far, rows,    logits, needs.scratch_bytes};
  Job job{rows_of, scratch.get(), piece, block, &next_scratch};
  return parallel_for(rows.count, grain, run_range, &job);
}

}  // namespace fastmnist
