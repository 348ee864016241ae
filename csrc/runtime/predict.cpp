#include "runtime/predict.h"

#include <algorithm>

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

std::int64_t rows_per_block(const NetworkView& network, std::int64_t rows) {
  const std::int64_t fit = caches().l1 / (network.outputs() * 4) / kRowsStep * kRowsStep;
  const std::int64_t share = std::max(fit, kRowsStep);
  if (rows <= share) return rows;
  const std::int64_t threads = num_threads();
  // What a thread must get for the handing over to pay.
  const std::int64_t worth =
      threads == 1 ? 0 : shares_of(rows, network.products_per_row(), true, kMaxShares).rows;
  return std::min(rows, std::max(share, worth) * threads);
}

}  // namespace

void predict_network(const NetworkView& network, const Rows& rows, std::int64_t* index,
                     ScratchPool* pool, ScratchPool* logits_pool) {
  check_rows(network, rows.type);
  if (rows.count == 0) return;
  const std::int64_t block = rows_per_block(network, rows.count);
  const ScratchLease lease(logits_pool, block * network.outputs() * 4);
  auto* logits = reinterpret_cast<float*>(lease.get());
  const std::int64_t row_bytes = network.inputs() * (rows.type == RowType::kPixels ? 1 : 4);
  for (std::int64_t first = 0; first < rows.count; first += block) {
    const std::int64_t count = std::min(block, rows.count - first);
    const void* data = static_cast<const std::byte*>(rows.data) + first * row_bytes;
    run_network(network, {rows.type, data, count}, logits, pool);
    arg_max(logits, count, network.outputs(), index + first);
  }
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
