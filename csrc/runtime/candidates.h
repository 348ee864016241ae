// Which kernels a layer can go by: what a bench measures, and a plan chooses from.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/export.h"
#include "core/types.h"
#include "pack/network.h"
#include "runtime/linear.h"

namespace fastmnist {

inline std::span<const LinearKernel> all_of(const KernelTable& kernels) {
  return {kernels.linears, static_cast<std::size_t>(kernels.linear_count)};
}

// The unit that any of the kernels needs: a set has at most one.
const Unit* unit_of(const KernelTable& kernels);

// Indexes of the kernels that can compute a layer of that shape in the forms of weights that it
// has.
FASTMNIST_API std::vector<int> candidates_of(const KernelTable& kernels, const NetworkView& network,
                                             std::int64_t layer, const LinearShape& shape);

// The rule's (runtime/plan.h) for so many rows.
int ruled_index(const KernelTable& kernels, const NetworkView& network, std::int64_t layer,
                std::int64_t rows);

}  // namespace fastmnist
