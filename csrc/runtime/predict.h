// The index of each row's largest logit, without keeping the logits.
#pragma once

#include <cstdint>

#include "core/export.h"
#include "core/status.h"
#include "pack/network.h"
#include "runtime/executor.h"
#include "runtime/scratch.h"

namespace fastmnist {

// Writes rows.count indices, by run_network and arg_max, one block after the other; refused as
// by run_network. The logits of a block lie in memory from `logits_pool`: another pool than
// `pool`, so that each keeps buffers of one size.
FASTMNIST_API Status predict_network(const NetworkView& network, const Rows& rows,
                                     std::int64_t* index, ScratchPool* pool,
                                     ScratchPool* logits_pool);

// Index of the largest value per row, the first of equals; NaN counts as largest, as in PyTorch.
FASTMNIST_API void arg_max(const float* logits, std::int64_t rows, std::int64_t columns,
                           std::int64_t* index);

}  // namespace fastmnist
