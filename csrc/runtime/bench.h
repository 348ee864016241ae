// Measures each kernel on each layer and number of rows, and how many rows should go through all
// layers together.
//
//     rows        1     2     4     8     16    32    64    96 and more
//     layer 0   rows  strips  ...               blocks ...                 <- measure_layer
//     layer 1   ...
//                                     all layers, 384 rows, in blocks of 32, 64, ...
//                                     each in turn                         <- measure_blocks
//
// Rows have the zeros that calibration saw (NetworkView::input_zeros), as some kernels skip them.
// What is measured is what runs: the layer's own packed weights, codes in cache, one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/export.h"
#include "core/status.h"
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
FASTMNIST_API Result<std::vector<KernelTime>> measure_layer(const KernelTable& kernels,
                                                            const NetworkView& network,
                                                            std::int64_t layer, int threads = 1);

// Whether a layer's rows may be pixels.
bool takes_pixels(const NetworkView& network, std::int64_t layer);

// Rows as layer i is measured with: [rows][stride], codes behind the inputs any. Where its zeros
// are not known half are zeros, else anything. (Tile products are slower on random bytes.)
FASTMNIST_API void fill_codes(const NetworkView& network, std::int64_t i, std::uint8_t* codes,
                              std::int64_t rows, std::int64_t stride);

// What setting the tile unit up, waking it and releasing it adds to a call; 0 where there is none.
FASTMNIST_API Result<double> measure_set_up(const KernelTable& kernels);

// Every size of blocks whose activations stay in the second-level cache. `buffer` holds the
// network; its plan's block_rows is changed on the way, and is the chosen one in the end.
FASTMNIST_API Result<std::vector<BlockTime>> measure_blocks(const KernelTable& kernels,
                                                            std::span<std::byte> buffer);

}  // namespace fastmnist
