// Which kernels a plan takes, by times alone: nothing is measured here.
//
// The rule's choice (plan.h) is replaced only by a kernel that is faster by more than the noise, so
// that two measurements of one machine seldom disagree.
#pragma once

#include <span>
#include <vector>

#include "core/export.h"
#include "core/status.h"
#include "core/types.h"
#include "pack/network.h"

namespace fastmnist {

// The usual choice, unless another is faster by more than the noise.
int fastest(const std::vector<double>& times, int usual);

// Indexes of kernels, [layer][class], from every layer's times: [layer][class][kernel of the
// table], infinite where it was not measured. All layers of a class are chosen together: setting
// the tile unit up must pay, too.
FASTMNIST_API Result<std::vector<int>> choose_kernels(const KernelTable& kernels,
                                                      const NetworkView& network,
                                                      std::span<const double> times,
                                                      double set_up_seconds);

}  // namespace fastmnist
