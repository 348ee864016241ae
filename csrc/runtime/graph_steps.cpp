#include "runtime/graph_steps.h"

#include <algorithm>
#include <cstring>

#include "kernels/sizes.h"
#include "pack/float_panels.h"
#include "runtime/predict.h"

namespace fastmnist {
namespace {

using Join = void (*)(const float*, const float*, std::int64_t, float*);

void join(Join function, const StepRows& a, const StepRows& b, std::int64_t samples, float* y) {
  const std::int64_t size = a.size();
  if (!a.constant && !b.constant) {
    function(a.data, b.data, samples * size, y);
    return;
  }
  for (std::int64_t m = 0; m < samples; ++m)
    function(a.data + (a.constant ? 0 : m * size), b.data + (b.constant ? 0 : m * size), size,
             y + m * size);
}

// Values of a graph that nobody of ours packed may lie over each other: wrong numbers, no more.
void copy(const float* from, std::int64_t count, float* to) {
  std::memmove(to, from, static_cast<std::size_t>(count) * sizeof(float));
}

void concatenate(const StepRows* operands, std::size_t count, std::int64_t samples,
                 std::int64_t width, float* y) {
  const std::int64_t positions = operands[0].positions;
  std::int64_t at = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const StepRows& x = operands[i];
    for (std::int64_t m = 0; m < samples; ++m)
      for (std::int64_t p = 0; p < positions; ++p) {
        const std::int64_t row = (x.constant ? 0 : m * positions) + p;
        copy(x.data + row * x.width, x.width, y + (m * positions + p) * width + at);
      }
    at += x.width;
  }
}

void transpose(const StepRows& x, std::int64_t samples, float* y) {
  for (std::int64_t m = 0; m < samples; ++m)
    for (std::int64_t n = 0; n < x.width; ++n)
      for (std::int64_t p = 0; p < x.positions; ++p)
        *y++ = x.data[(m * x.positions + p) * x.width + n];
}

// Positions ascending, then divided.
void mean(const KernelTable& kernels, const StepRows& x, std::int64_t samples, float* y) {
  for (std::int64_t m = 0; m < samples; ++m, y += x.width) {
    const float* rows = x.data + m * x.size();
    copy(rows, x.width, y);
    for (std::int64_t p = 1; p < x.positions; ++p)
      kernels.floats.add(y, rows + p * x.width, x.width, y);
    for (std::int64_t n = 0; n < x.width; ++n) y[n] /= static_cast<float>(x.positions);
  }
}

// Ascending from 0.
void sum(const StepRows& x, std::int64_t rows, float* y) {
  for (std::int64_t m = 0; m < rows; ++m) {
    float total = 0;
    for (std::int64_t n = 0; n < x.width; ++n) total += x.data[m * x.width + n];
    y[m] = total;
  }
}

void float_layer(const KernelTable& kernels, const GraphView& graph, const StepRecord& step,
                 const StepRows& x, std::int64_t rows, std::int64_t outputs, float* y) {
  FloatLinearArgs args{};
  args.x = x.data;
  args.x_stride = x.width;
  args.rows = rows;
  args.panels = graph.floats(step.offset);
  args.bias = args.panels + float_panel_bytes(x.width, outputs) / 4;
  args.inputs = x.width;
  args.outputs = outputs;
  args.lo = step.clamp.lo;
  args.hi = step.clamp.hi;
  args.y = y;
  args.y_stride = outputs;
  kernels.float_linear.linear(args);
  if (step.activation.function != Function::kNone)
    kernels.floats.activate(y, rows * outputs, step.activation, y);
}

}  // namespace

void run_step(const KernelTable& kernels, const GraphView& graph, const StepRecord& step,
              const StepRows* operands, std::int64_t samples, void* result) {
  const FloatKernels& floats = kernels.floats;
  const StepRows& x = operands[0];
  const std::int64_t size = x.size();
  const std::int64_t rows = samples * x.positions;
  const std::int64_t all = samples * size;
  const std::int64_t width = graph.values()[step.value].width;
  const float* const table = graph.floats(step.offset);
  auto* const y = static_cast<float*>(result);
  switch (step.kind) {
    case StepKind::kInt8:
      break;  // runtime/block.h
    case StepKind::kFloat:
      float_layer(kernels, graph, step, x, rows, width, y);
      break;
    case StepKind::kActivate:
      floats.activate(x.data, all, step.activation, y);
      break;
    case StepKind::kClamp:
      floats.clamp(x.data, all, step.clamp, y);
      break;
    case StepKind::kSlopes:
      for (std::int64_t m = 0; m < samples; ++m)
        floats.slopes(x.data + m * size, size, table, y + m * size);
      break;
    case StepKind::kAffine:
      for (std::int64_t m = 0; m < samples; ++m)
        floats.affine(x.data + m * size, size, table, table + aligned(size * 4) / 4, y + m * size);
      break;
    case StepKind::kAdd:
      join(floats.add, x, operands[1], samples, y);
      break;
    case StepKind::kSubtract:
      join(floats.subtract, x, operands[1], samples, y);
      break;
    case StepKind::kMultiply:
      join(floats.multiply, x, operands[1], samples, y);
      break;
    case StepKind::kDivide:
      join(floats.divide, x, operands[1], samples, y);
      break;
    case StepKind::kConcat:
      concatenate(operands, step.operands, samples, width, y);
      break;
    case StepKind::kSlice:
      for (std::int64_t m = 0; m < rows; ++m)
        copy(x.data + m * x.width + step.begin, width, y + m * width);
      break;
    case StepKind::kTranspose:
      transpose(x, samples, y);
      break;
    case StepKind::kMean:
      mean(kernels, x, samples, y);
      break;
    case StepKind::kSum:
      sum(x, rows, y);
      break;
    case StepKind::kSoftmax:
      for (std::int64_t m = 0; m < rows; ++m)
        floats.softmax(x.data + m * x.width, x.width, y + m * x.width);
      break;
    case StepKind::kLogSoftmax:
      for (std::int64_t m = 0; m < rows; ++m)
        floats.log_softmax(x.data + m * x.width, x.width, y + m * x.width);
      break;
    case StepKind::kLayerNorm:
      for (std::int64_t m = 0; m < rows; ++m)
        floats.layer_norm(x.data + m * x.width, x.width, step.bytes != 0 ? table : nullptr,
                          step.bytes != 0 ? table + aligned(x.width * 4) / 4 : nullptr,
                          step.epsilon, y + m * x.width);
      break;
    case StepKind::kReshape:
      if (x.data != y) copy(x.data, all, y);
      break;
    case StepKind::kArgMax:
      arg_max(x.data, rows, x.width, static_cast<std::int64_t*>(result));
      break;
  }
}

}  // namespace fastmnist
