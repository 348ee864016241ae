// Runs a packed graph: rows of its inputs in, rows of its outputs out, in one call.
//
// As with whole networks (executor.h), rows go through all steps block by block, so that a block's
// values stay in cache, and blocks are independent: any batch split and any number of threads give
// the same bits.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "core/export.h"
#include "core/status.h"
#include "pack/graph.h"
#include "runtime/rows.h"
#include "runtime/scratch.h"

namespace fastmnist {

struct GraphInput {
  RowType type;
  const void* data;  // rows of input(i).size() values each, contiguous
};

// Writes `rows` rows of each output: floats, or int64 where gives_indexes says so. Refused for
// pixels that an input cannot take, and where there is no scratch memory; nothing is written then.
FASTMNIST_API Status run_graph(const GraphView& graph, std::span<const GraphInput> inputs,
                               std::int64_t rows, std::span<void* const> outputs,
                               ScratchPool* pool = nullptr, int max_threads = 0);

// Refuses pixels into an input that does not know what a pixel stands for.
FASTMNIST_API Status check_graph_input(const GraphView& graph, std::size_t i, RowType type,
                                       const std::string& name);

// The index of the largest of each `columns` values of a graph's one output, which are floats.
FASTMNIST_API Status predict_graph(const GraphView& graph, std::span<const GraphInput> inputs,
                                   std::int64_t rows, std::int64_t columns, std::int64_t* index,
                                   ScratchPool* pool = nullptr, ScratchPool* logits_pool = nullptr);

// Rows that go through all steps together.
FASTMNIST_API std::int64_t graph_block_rows(const GraphView& graph);

}  // namespace fastmnist
