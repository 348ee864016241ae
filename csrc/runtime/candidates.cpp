#include "runtime/candidates.h"

#include "runtime/plan.h"

namespace fastmnist {

const Unit* unit_of(const KernelTable& kernels) {
  for (const LinearKernel& kernel : all_of(kernels))
    if (kernel.unit != nullptr) return kernel.unit;
  return nullptr;
}

std::vector<int> candidates_of(const KernelTable& kernels, const NetworkView& network,
                               std::int64_t layer, const LinearShape& shape) {
  std::vector<int> candidates;
  for (int i = 0; i < kernels.linear_count; ++i)
    if (network.has_form(layer, kernels.linears[i].form) && can(kernels.linears[i], shape))
      candidates.push_back(i);
  return candidates;
}

int ruled_index(const KernelTable& kernels, const NetworkView& network, std::int64_t layer,
                std::int64_t rows) {
  const LinearShape shape = shape_of(network, layer, rows);
  return static_cast<int>(&ruled_kernel(kernels, network, layer, shape) - kernels.linears);
}

}  // namespace fastmnist
