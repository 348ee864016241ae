#include "runtime/linear.h"

#include <cstddef>

#include "core/threads.h"
#include "runtime/plan.h"
#include "runtime/scratch.h"
#include "runtime/shares.h"

namespace fastmnist {
namespace {

struct Job {
  const KernelTable& kernels;
  const LinearKernel& kernel;
  LinearOutput output;
  const LinearArgs& args;
};

void run_rows(void* context, std::int64_t begin, std::int64_t end) {
  const Job& job = *static_cast<const Job*>(context);
  LinearArgs args = job.args;
  const std::int64_t value = job.output == LinearOutput::kCodes ? 1 : sizeof(float);
  args.x += begin * args.x_stride;
  args.x_readable -= begin * args.x_stride;
  args.x_before += begin * args.x_stride;
  args.rows = end - begin;
  args.y = static_cast<std::byte*>(args.y) + begin * args.y_stride * value;
  if (args.row_quantizers != nullptr) args.row_quantizers += begin;
  const TileUnit* unit = job.kernel.tiles ? job.kernels.tiles : nullptr;
  const ScratchLease scratch(shared_scratch(),
                             unit != nullptr
                                 ? linear_scratch_bytes(job.kernels, args.w.padded_inputs,
                                                        job.kernel.form != WeightForm::kDense)
                                 : 0);
  args.scratch = scratch.get();
  const TileGuard guard(unit);
  run_linear(job.kernel, job.output, args);
}

}  // namespace

LinearArgs make_args(const NetworkView& network, std::int64_t i, WeightForm form, const CodeRows& x,
                     std::int64_t rows, void* y, std::int64_t y_stride) {
  LinearArgs args{};
  args.x = x.data;
  args.x_stride = x.stride;
  args.x_readable = x.readable;
  args.x_before = x.before;
  args.rows = rows;
  network.weights(i, form, args);
  args.x_quantizer = network.record(i).x_quantizer;
  args.clamp = network.record(i).clamp;
  args.y = y;
  args.y_stride = y_stride;
  return args;
}

void run_single_linear(const KernelTable& kernels, const LinearKernel& kernel, LinearOutput output,
                       const LinearArgs& args) {
  if (args.rows == 0) return;
  Job job{kernels, kernel, output, args};
  const Shares shares = shares_of(args.rows, args.w.inputs * args.w.outputs, kernel.tiles);
  parallel_for(args.rows, shares.rows, run_rows, &job);
}

}  // namespace fastmnist
