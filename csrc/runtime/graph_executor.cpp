#include "runtime/graph_executor.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <string>
#include <utility>

#include "core/caches.h"
#include "core/threads.h"
#include "kernels/sizes.h"
#include "kernels/tables.h"
#include "runtime/block.h"
#include "runtime/executor.h"
#include "runtime/graph_steps.h"
#include "runtime/linear.h"
#include "runtime/pixels.h"
#include "runtime/plan.h"
#include "runtime/predict.h"
#include "runtime/shares.h"

namespace fastmnist {
namespace {

constexpr std::int64_t kMostBlockRows = 256;
constexpr std::size_t kOperandsAtOnce = 16;

struct Job {
  const GraphView& graph;
  const KernelTable& kernels;
  const Unit* unit;  // of one of the int8 networks' kernels; nullptr: none
  bool threaded;
  std::span<const GraphInput> inputs;
  std::span<void* const> outputs;
  std::byte* scratch;  // one piece per thread slot
  std::int64_t scratch_stride;
  std::int64_t block_rows;
  std::int64_t values_bytes;  // of a piece: the values; behind them what int8 networks need
  std::int64_t kernel_bytes;
  std::atomic<std::int64_t>* next_scratch;
};

// Of one block: where each value lies.
struct BlockOfRows {
  const Job& job;
  std::byte* scratch;
  std::int64_t first;
  std::int64_t count;

  float* in_scratch(std::uint64_t offset) const {
    return reinterpret_cast<float*>(scratch) + static_cast<std::int64_t>(offset) * job.block_rows;
  }

  const std::byte* input(const ValueRecord& value) const {
    const GraphInput& given = job.inputs[value.index];
    const std::int64_t bytes = given.type == RowType::kPixels ? 1 : sizeof(float);
    return static_cast<const std::byte*>(given.data) + first * value.size() * bytes;
  }

  const float* read(const ValueRecord& value) const {
    switch (value.place) {
      case Place::kInput: {
        const InputRecord& record = job.graph.inputs()[value.index];
        if (job.inputs[value.index].type == RowType::kPixels) return in_scratch(record.scratch);
        return reinterpret_cast<const float*>(input(value));
      }
      case Place::kOutput:
        return static_cast<const float*>(job.outputs[value.index]) + first * value.size();
      case Place::kConstant:
        return job.graph.floats(value.offset);
      case Place::kScratch:
        return in_scratch(value.offset);
    }
    return nullptr;
  }

  void* write(const StepRecord& step) const {
    const ValueRecord& value = job.graph.values()[step.value];
    if (value.place == Place::kScratch) return in_scratch(value.offset);
    const std::int64_t bytes = step.kind == StepKind::kArgMax ? 8 : 4;
    return static_cast<std::byte*>(job.outputs[value.index]) + first * value.size() * bytes;
  }
};

// An input's pixels as numbers, into scratch memory.
void look_up_input(const BlockOfRows& block, const InputRecord& input) {
  const ValueRecord& value = block.job.graph.values()[input.value];
  const auto* pixels = reinterpret_cast<const std::uint8_t*>(block.input(value));
  float* const to = block.in_scratch(input.scratch);
  for (std::int64_t m = 0; m < block.count; ++m)
    look_up_pixels(block.job.graph.floats(input.table), input.channels, pixels + m * value.size(),
                   value.size(), to + m * value.size());
}

// An int8 network on a block: each position of each sample is one of its rows.
void run_network_step(const BlockOfRows& block, std::size_t i) {
  const Job& job = block.job;
  const StepRecord& step = job.graph.steps()[i];
  const NetworkView& network = job.graph.network(i);
  const ValueRecord& x = job.graph.values()[job.graph.operands(step)[0]];
  const bool in_place = x.place == Place::kInput && job.inputs[x.index].type == RowType::kPixels &&
                        job.graph.inputs()[x.index].pixels == PixelKind::kCodes;
  const std::int64_t rows = block.count * x.positions;
  const Rows given{
      in_place ? RowType::kPixels : RowType::kFloat32,
      in_place ? static_cast<const void*>(block.input(x)) : static_cast<const void*>(block.read(x)),
      rows};
  const PlanView plan(job.kernels, network);
  const Block layers{network,         job.kernels, plan,  job.unit,
                     job.threaded,    false,       given, static_cast<float*>(block.write(step)),
                     job.kernel_bytes};
  const std::int64_t at_once = std::min(round_up(rows, kBlockRowsStep), kMaxBlockRows);
  const BlockScratch scratch(network, at_once, job.kernel_bytes, block.scratch + job.values_bytes);
  for (std::int64_t first = 0; first < rows; first += at_once)
    run_block(layers, scratch, first, std::min(at_once, rows - first), rows);
}

void run_float_step(const BlockOfRows& block, const StepRecord& step) {
  const GraphView& graph = block.job.graph;
  const std::span<const std::uint32_t> operands = graph.operands(step);
  const auto rows_of = [&](std::uint32_t operand) {
    const ValueRecord& value = graph.values()[operand];
    return StepRows{block.read(value), value.positions, value.width,
                    value.place == Place::kConstant};
  };
  void* const y = block.write(step);
  if (operands.size() <= kOperandsAtOnce) {
    std::array<StepRows, kOperandsAtOnce> rows;
    for (std::size_t i = 0; i < operands.size(); ++i) rows[i] = rows_of(operands[i]);
    run_step(block.job.kernels, graph, step, rows.data(), block.count, y);
    return;
  }
  std::vector<StepRows> rows;  // a concatenation of very many
  for (const std::uint32_t operand : operands) rows.push_back(rows_of(operand));
  run_step(block.job.kernels, graph, step, rows.data(), block.count, y);
}

void run_range(void* context, std::int64_t begin, std::int64_t end) {
  const Job& job = *static_cast<const Job*>(context);
  const std::int64_t slot = job.next_scratch->fetch_add(1, std::memory_order_relaxed);
  std::byte* const scratch = job.scratch + slot * job.scratch_stride;
  const UnitGuard guard(job.unit);
  for (std::int64_t first = begin; first < end; first += job.block_rows) {
    const BlockOfRows block{job, scratch, first, std::min(job.block_rows, end - first)};
    for (const InputRecord& input : job.graph.inputs())
      if (input.pixels == PixelKind::kTable &&
          job.inputs[job.graph.values()[input.value].index].type == RowType::kPixels)
        look_up_input(block, input);
    const std::span<const StepRecord> steps = job.graph.steps();
    for (std::size_t i = 0; i < steps.size(); ++i) {
      if (steps[i].kind == StepKind::kInt8)
        run_network_step(block, i);
      else
        run_float_step(block, steps[i]);
    }
  }
}

// What the int8 networks of a graph need for blocks of so many samples.
struct Needs {
  const Unit* unit = nullptr;
  std::int64_t kernel_bytes = 0;
  std::int64_t network_bytes = 0;
};

Needs needs_of(const KernelTable& kernels, const GraphView& graph, std::int64_t samples,
               bool threaded) {
  Needs needs;
  const std::span<const StepRecord> steps = graph.steps();
  const auto rows_of = [&](std::size_t i) {
    return std::min(samples * graph.values()[graph.operands(steps[i])[0]].positions, kMaxBlockRows);
  };
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if (steps[i].kind != StepKind::kInt8) continue;
    const PlanView plan(kernels, graph.network(i));
    const PlanView::Needs own = plan.needs(rows_of(i), threaded);
    if (own.unit != nullptr) needs.unit = own.unit;
    needs.kernel_bytes = std::max(needs.kernel_bytes, own.scratch_bytes);
  }
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if (steps[i].kind != StepKind::kInt8) continue;
    const std::int64_t rows = std::min(round_up(rows_of(i), kBlockRowsStep), kMaxBlockRows);
    const BlockScratch scratch(graph.network(i), rows, needs.kernel_bytes, nullptr);
    needs.network_bytes = std::max(needs.network_bytes, scratch.bytes());
  }
  return needs;
}

}  // namespace

Status check_graph_input(const GraphView& graph, std::size_t i, RowType type,
                         const std::string& name) {
  if (type == RowType::kPixels && graph.inputs()[i].pixels == PixelKind::kNone)
    return no_pixels(name);
  return {};
}

Status predict_graph(const GraphView& graph, std::span<const GraphInput> inputs, std::int64_t rows,
                     std::int64_t columns, std::int64_t* index, ScratchPool* pool,
                     ScratchPool* logits_pool) {
  const ValueRecord& output = graph.output(0);
  const ScratchLease lease(logits_pool, std::max<std::int64_t>(1, rows * output.size() * 4));
  if (!lease.ok()) return Status::out_of_memory();
  void* logits[] = {lease.get()};
  if (Status bad = run_graph(graph, inputs, rows, logits, pool); !bad.ok()) return bad;
  arg_max(static_cast<const float*>(logits[0]), rows * output.size() / columns, columns, index);
  return {};
}

std::int64_t graph_block_rows(const GraphView& graph) {
  // Half of the second-level cache holds a block of values, the other half weights.
  const auto bytes = static_cast<std::int64_t>(graph.header().sample_bytes);
  const std::int64_t rows = caches().l2 / 2 / bytes / kBlockRowsStep * kBlockRowsStep;
  return std::clamp(rows, kBlockRowsStep, kMostBlockRows);
}

Status run_graph(const GraphView& graph, std::span<const GraphInput> inputs, std::int64_t rows,
                 std::span<void* const> outputs, ScratchPool* pool, int max_threads) {
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (Status bad = check_graph_input(graph, i, inputs[i].type, "inputs"); !bad.ok()) return bad;
  if (rows == 0) return {};
  Result<const KernelTable*> active = active_kernels();
  if (!active.ok()) return std::move(active).status();
  const KernelTable& kernels = **active;
  const std::int64_t block = std::min(graph_block_rows(graph), rows);
  Needs needs = needs_of(kernels, graph, block, false);
  Result<Shares> shares = shares_of(rows, static_cast<std::int64_t>(graph.header().products),
                                    needs.unit != nullptr, max_threads);
  if (!shares.ok()) return std::move(shares).status();
  const auto [grain, chunks] = *shares;
  const bool threaded = chunks > 1;
  if (threaded) {
    const Needs shared = needs_of(kernels, graph, block, true);
    if (shared.unit != nullptr) needs.unit = shared.unit;
    needs.kernel_bytes = std::max(needs.kernel_bytes, shared.kernel_bytes);
    needs.network_bytes = std::max(needs.network_bytes, shared.network_bytes);
  }
  const std::int64_t values = static_cast<std::int64_t>(graph.header().scratch) * 4 * block;
  const std::int64_t piece = aligned(values) + aligned(needs.network_bytes);
  const ScratchLease scratch(pool, piece * chunks);
  if (!scratch.ok()) return Status::out_of_memory();
  std::atomic<std::int64_t> next_scratch{0};
  Job job{graph, kernels, needs.unit,      threaded,           inputs,       outputs, scratch.get(),
          piece, block,   aligned(values), needs.kernel_bytes, &next_scratch};
  return parallel_for(rows, grain, run_range, &job);
}

}  // namespace fastmnist
