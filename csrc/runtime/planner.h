// Measures which kernel is fastest for each layer and number of rows, and how many rows should go
// through all layers together; writes the choices into the packed network.
//
//     rows        1     2     4     8     16    32    64    96 and more
//     layer 0   rows  strips  ...               blocks ...                 <- measure_layer
//     layer 1   ...
//                                     all layers, 384 rows, in blocks of 32, 64, ...
//                                     each in turn                         <- measure_blocks
//
// What is measured is what runs: the layer's own packed weights, codes in cache, one thread. The
// rule's choice (plan.h) is replaced only by a kernel that is faster by more than the noise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/export.h"
#include "core/types.h"
#include "pack/network.h"

namespace fastmnist {

struct KernelTime {
  std::int64_t rows;  // the largest of its class
  int kernel;         // index in the table
  double seconds;     // per call
};

struct BlockTime {
  std::int64_t block_rows;
  double seconds_per_row;
  bool chosen;
};

// Every kernel whose form of weights there is, at every class of rows: [class][kernel]. At most
// some 8 ms for a layer of 784-96-256-10. A kernel that is far behind soon drops out. With several
// threads: each on rows of its own at once, as they share memory and caches, from
// kFirstThreadedClass on.
FASTMNIST_API std::vector<KernelTime> measure_layer(const KernelTable& kernels,
                                                    const NetworkView& network, std::int64_t layer,
                                                    int threads = 1);

// What setting the tile unit up and releasing it costs; 0 where there is none.
FASTMNIST_API double measure_set_up(const KernelTable& kernels);

// Indexes of kernels, [layer][class], from every layer's times: [layer][class][kernel of the
// table], infinite where it was not measured. All layers of a class are chosen together: setting
// the tile unit up must pay, too.
FASTMNIST_API std::vector<int> choose_kernels(const KernelTable& kernels,
                                              const NetworkView& network,
                                              std::span<const double> times, double set_up_seconds);

// Every size of blocks whose activations stay in the second-level cache. `buffer` holds the
// network; its plan's block_rows is changed on the way, and is the chosen one in the end.
FASTMNIST_API std::vector<BlockTime> measure_blocks(const KernelTable& kernels,
                                                    std::span<std::byte> buffer);

// Indexes of kernels per layer, kRowClasses each, and the same for several threads (or nothing).
// Throws InvalidArgument for another number of them, a kernel that the table has not, or block_rows
// outside 32...1024.
FASTMNIST_API void write_plan(const KernelTable& kernels, std::span<const int> choices,
                              std::span<const int> threaded, std::int64_t block_rows,
                              std::span<std::byte> buffer);

}  // namespace fastmnist
