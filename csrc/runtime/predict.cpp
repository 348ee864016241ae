#include "runtime/predict.h"

#include <algorithm>
#include <utility>

#include "core/caches.h"
#include "core/threads.h"
#include "runtime/shares.h"

namespace fastmnist {
namespace {

// A thread's share of a block: no more logits than fill the first-level cache, so that the second
// one still has them beside all else. Rows come in a multiple of what the executor makes its own
// blocks of.
constexpr std::int64_t kRowsStep = 192;
constexpr int kMaxShares = 1024;

Result<std::int64_t> rows_per_block(const NetworkView& network, std::int64_t rows) {
  const std::int64_t fit = caches().l1 / (network.outputs() * 4) / kRowsStep * kRowsStep;
  const std::int64_t share = std::max(fit, kRowsStep);
  if (rows <= share) return rows;
  Result<int> most = num_threads();
  if (!most.ok()) return std::move(most).status();
  const std::int64_t threads = *most;
  // What a thread must get for handing it over to pay off.
  std::int64_t worth = 0;
  if (threads > 1) {
    Result<Shares> shares = shares_of(rows, network.products_per_row(), true, kMaxShares);
    if (!shares.ok()) return std::move(shares).status();
    worth = shares->rows;
  }
  return std::min(rows, std::max(share, worth) * threads);
}

}  // namespace

Status predict_network(const NetworkView& network, const Rows& rows, std::int64_t* index,
                       ScratchPool* pool, ScratchPool* logits_pool) {
  if (Status bad = check_rows(network, rows.type); !bad.ok()) return bad;
  if (rows.count == 0) return {};
  Result<std::int64_t> share = rows_per_block(network, rows.count);
  if (!share.ok()) return std::move(share).status();
  const std::int64_t block = *share;
  const ScratchLease lease(logits_pool, block * network.outputs() * 4);
  if (!lease.ok()) return Status::out_of_memory();
  auto* logits = reinterpret_cast<float*>(lease.get());
  const std::int64_t row_bytes = network.inputs() * (rows.type == RowType::kPixels ? 1 : 4);
  for (std::int64_t first = 0; first < rows.count; first += block) {
    const std::int64_t count = std::min(block, rows.count - first);
    const void* data = static_cast<const std::byte*>(rows.data) + first * row_bytes;
    if (Status bad = run_network(network, {rows.type, data, count}, logits, pool); !bad.ok())
      return bad;
    arg_max(logits, count, network.outputs(), index + first);
  }
  return {};
}

// Without branches, which would be guessed wrongly at every second row.
void arg_max(const float* logits, std::int64_t rows, std::int64_t columns, std::int64_t* index) {
  for (std::int64_t m = 0; m < rows; ++m) {
    const float* row = logits + m * columns;
    float best = row[0];
    std::int64_t at = 0;
    for (std::int64_t n = 1; n < columns; ++n) {
      // "Not smaller or equal" holds for NaN too; behind the first NaN nothing is larger.
      const bool larger = !(row[n] <= best) & (best == best);
      at = larger ? n : at;
      best = larger ? row[n] : best;
    }
    index[m] = at;
  }
}

}  // namespace fastmnist
