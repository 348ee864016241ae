// Plans a packed network: which kernel computes each layer at each number of rows, and how many
// rows go through all layers together, by what is known of this machine or measured now.
//
//     bench.h          measures kernels ──┐
//     measurements.h   remembers times  ──┴──►  choice.h takes kernels  ──►  plan_writer.h
//
// A plan never changes an answer, only how long it takes. Times belong to a machine and a *key*:
// the layer's shape, how large its sparse weights are, how many of its inputs are zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/export.h"
#include "core/status.h"
#include "core/types.h"
#include "pack/network.h"
#include "runtime/bench.h"
#include "runtime/measurements.h"

namespace fastmnist {

// What times depend on beside the key: the processor, the kernels that there are, our version.
FASTMNIST_API std::string machine_name(const KernelTable& kernels);

// What a layer's speed depends on: "784x96 codes".
FASTMNIST_API std::string layer_key(const NetworkView& network, std::int64_t layer);

// Times of every kernel that could compute the layer, at every class of rows, as measure_layer
// gives them: remembered, or measured now. With several threads from kFirstThreadedClass on.
FASTMNIST_API Result<std::vector<KernelTime>> layer_times(const KernelTable& kernels,
                                                          const NetworkView& network,
                                                          std::int64_t layer, Measurements& known,
                                                          int threads = 1);

// Writes the plan into the network for so many threads, measures for it what is not known, and
// saves that. One planner at a time: others wait, and find then what was measured.
FASTMNIST_API Status plan_network(const KernelTable& kernels, std::span<std::byte> buffer,
                                  Measurements& known, int threads);

// The same without measuring: false, and nothing written, where something is not known.
FASTMNIST_API Result<bool> plan_from_memory(const KernelTable& kernels, std::span<std::byte> buffer,
                                            Measurements& known, int threads);

}  // namespace fastmnist
