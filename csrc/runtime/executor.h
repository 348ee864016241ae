// Runs a packed network: rows of pixels or floats in, rows of float32 logits out.
//
// Rows go through all layers block by block (block.h), so that a block's activations stay in cache
// and the rows themselves are read from memory once.
//
// Blocks are independent, so any batch split and any number of threads give the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/export.h"
#include "core/status.h"
#include "pack/network.h"
#include "runtime/rows.h"
#include "runtime/scratch.h"

namespace fastmnist {

// Writes count x outputs() floats. Refused for pixels that the network cannot take, and where there
// is no scratch memory; nothing is written then.
// Working memory comes from `pool` where there is one, else it is allocated for the call. At most
// `max_threads` threads work where it is not 0.
FASTMNIST_API Status run_network(const NetworkView& network, const Rows& rows, float* logits,
                                 ScratchPool* pool = nullptr, int max_threads = 0);

// The refusal of uint8 rows of an input by that name.
FASTMNIST_API Status no_pixels(const std::string& name);

// Refuses pixels into a network that does not know what a pixel stands for.
FASTMNIST_API Status check_rows(const NetworkView& network, RowType type);

}  // namespace fastmnist
