#include "runtime/linear.h"

#include <atomic>
#include <cstddef>
#include <utility>

#include "core/threads.h"
#include "runtime/plan.h"
#include "runtime/scratch.h"
#include "runtime/shares.h"

namespace fastmnist {
namespace {

struct Job {
  const LinearKernel& kernel;
  LinearOutput output;
  const LinearArgs& args;
  std::atomic<bool> out_of_memory{false};
};

void run_rows(void* context, std::int64_t begin, std::int64_t end) {
  Job& job = *static_cast<Job*>(context);
  LinearArgs args = job.args;
  const std::int64_t value = job.output == LinearOutput::kCodes ? 1 : sizeof(float);
  args.x += begin * args.x_stride;
  args.rows = end - begin;
  args.y = static_cast<std::byte*>(args.y) + begin * args.y_stride * value;
  if (args.row_quantizers != nullptr) args.row_quantizers += begin;
  const LinearShape shape{args.rows, args.w.inputs, args.w.outputs,
                          job.output == LinearOutput::kCodes, args.row_quantizers != nullptr};
  const ScratchLease scratch(shared_scratch(), scratch_bytes(job.kernel, shape));
  if (!scratch.ok()) {
    job.out_of_memory.store(true, std::memory_order_relaxed);
    return;
  }
  args.scratch = scratch.get();
  const UnitGuard guard(job.kernel.unit);
  run_linear(job.kernel, job.output, args);
}

}  // namespace

LinearArgs make_args(const NetworkView& network, std::int64_t i, WeightForm form, const CodeRows& x,
                     std::int64_t rows, void* y, std::int64_t y_stride) {
  LinearArgs args{};
  args.x = x.data;
  args.x_stride = x.stride;
  args.x_begin = x.begin;
  args.x_end = x.end;
  args.rows = rows;
  args.w = network.weights(i, form);
  args.x_quantizer = network.record(i).x_quantizer;
  args.clamp = network.record(i).clamp;
  args.y = y;
  args.y_stride = y_stride;
  return args;
}

Status run_single_linear(const LinearKernel& kernel, LinearOutput output, const LinearArgs& args) {
  if (args.rows == 0) return {};
  Job job{kernel, output, args};
  Result<Shares> shares =
      shares_of(args.rows, args.w.inputs * args.w.outputs, kernel.unit != nullptr);
  if (!shares.ok()) return std::move(shares).status();
  if (Status bad = parallel_for(args.rows, shares->rows, run_rows, &job); !bad.ok()) return bad;
  return job.out_of_memory.load(std::memory_order_relaxed) ? Status::out_of_memory() : Status();
}

}  // namespace fastmnist
