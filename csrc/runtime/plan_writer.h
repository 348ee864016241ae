// Writes a plan into a packed network, and removes what the plan does not use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/export.h"
#include "core/status.h"
#include "core/types.h"
#include "pack/network.h"

namespace fastmnist {

// Indexes of kernels per layer, kRowClasses each, and the same for several threads (or nothing).
// Refused for a wrong number of them, a kernel that is not in the table, or block_rows outside
// 32...1024.
FASTMNIST_API Status write_plan(const KernelTable& kernels, std::span<const int> choices,
                                std::span<const int> threaded, std::int64_t block_rows,
                                std::span<std::byte> buffer);

// The rule's choices (plan.h), so that calls need not ask it again.
FASTMNIST_API Status write_ruled_plan(const KernelTable& kernels, std::span<std::byte> buffer);

// So many rows go through all layers together, without a word about kernels unless there is one;
// 0: as the rule says.
void write_block_rows(const KernelTable& kernels, std::int64_t block_rows,
                      std::span<std::byte> buffer);

// Forms of weights that no kernel of the plan (or else of the rule) reads would only take memory:
// moves the others together and returns how many bytes the network has then.
FASTMNIST_API Result<std::size_t> drop_unused_forms(const KernelTable& kernels,
                                                    std::span<std::byte> buffer);

}  // namespace fastmnist
