// A packed network on one block of rows, by one thread: what whole networks (executor.h) and the
// int8 parts of graphs (graph_executor.h) are run by.
//
//     float rows --quantize--> [codes A] --linear--> [codes B] --linear--> [codes A] ... --> floats
//     pixel rows ------------------^ (in place where a pixel is its code)
//
// Between a layer with a function (GELU, ...) and the next there are floats for a moment:
//
//     [codes A] --linear--> [floats] --function, quantize--> [codes B]
//
// Dynamic networks keep floats between all layers and quantize each row by its own range:
//
//     float rows --range, quantize--> [codes] --linear--> [floats] --range, quantize--> ...
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/types.h"
#include "kernels/sizes.h"
#include "pack/network.h"
#include "runtime/plan.h"
#include "runtime/rows.h"

namespace fastmnist {

// One block's working memory, carved from one allocation. Layer i reads the buffer i % 2.
struct BlockScratch {
  std::uint8_t* codes[2];
  float* floats[2];         // dynamic; static: the first, where there is a function between layers
  std::int64_t strides[2];  // values from row to row, in both
  Quantizer* quantizers;    // dynamic only
  bool* bad;                // rows whose outputs are NaN
  std::byte* kernel;
  std::int64_t kernel_at;     // bytes before it
  std::int64_t kernel_bytes;  // of it
  std::int64_t rows;

  // `start`: nullptr, where only its size is asked for.
  BlockScratch(const NetworkView& network, std::int64_t block_rows, std::int64_t for_kernels,
               std::byte* start);

  std::int64_t bytes() const { return kernel_at + aligned(kernel_bytes); }
};

struct Block {
  const NetworkView& network;
  const KernelTable& kernels;
  const PlanView& plan;
  const Unit* unit;  // nullptr where no kernel of these rows needs one; else there is a guard
  bool threaded;     // several threads share the rows
  bool rows_far;     // more of them than stay in the second-level cache
  Rows rows;         // all
  float* y;          // of all rows, outputs() values each, contiguous
  std::int64_t kernel_bytes;
};

// Rows first to first + count. `end`: of the rows that this thread will do in blocks of so many.
void run_block(const Block& block, const BlockScratch& scratch, std::int64_t first,
               std::int64_t count, std::int64_t end);

}  // namespace fastmnist
