#include "runtime/block.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/arithmetic.h"
#include "kernels/sizes.h"
#include "runtime/linear.h"
#include "runtime/pixels.h"

namespace fastmnist {
namespace {

// What layer i takes (i = layers(): what the last one gives), at multiples of 64.
std::int64_t width_of(const NetworkView& network, std::int64_t i) {
  return aligned(i < network.layers() ? network.record(i).inputs : network.outputs());
}

// Whether a function's results become codes.
bool function_between(const NetworkView& network) {
  for (std::int64_t i = 0; i + 1 < network.layers(); ++i)
    if (network.has_function(i)) return true;
  return false;
}

// The plan's kernel. (A torch operator's packed bytes may change during a call; a kernel must not
// run without what it needs.)
const LinearKernel& kernel_of(const Block& job, std::int64_t layer, std::int64_t rows) {
  const LinearShape shape = shape_of(job.network, layer, rows);
  const LinearKernel& kernel = job.plan.kernel(layer, shape, job.threaded);
  const bool ready = (kernel.unit == nullptr || kernel.unit == job.unit) &&
                     scratch_bytes(kernel, shape) <= job.kernel_bytes;
  return ready ? kernel : job.kernels.linears[0];
}

void fill_nan(float* row, std::int64_t n) {
  std::fill(row, row + n, std::numeric_limits<float>::quiet_NaN());
}

const std::byte* row_at(const Block& job, std::int64_t row) {
  const std::int64_t value = job.rows.type == RowType::kPixels ? 1 : sizeof(float);
  return static_cast<const std::byte*>(job.rows.data) + row * job.network.inputs() * value;
}

CodeRows pixel_codes(const Block& job, std::int64_t first) {
  const std::int64_t inputs = job.network.inputs();
  const auto* all = static_cast<const std::uint8_t*>(job.rows.data);
  return {all + first * inputs, inputs, all, all + job.rows.count * inputs};
}

// All of a buffer of a block's codes may be read.
CodeRows scratch_codes(const std::uint8_t* codes, std::int64_t stride, const BlockScratch& s) {
  return {codes, stride, codes, codes + s.rows * stride};
}

CodeRows quantized_codes(const Block& job, const BlockScratch& s, std::int64_t first,
                         std::int64_t count) {
  const NetworkView& net = job.network;
  const std::int64_t inputs = net.inputs();
  const auto* rows = reinterpret_cast<const float*>(row_at(job, first));
  const float* multiplier = net.input() == InputKind::kAffine ? net.tables() : nullptr;
  for (std::int64_t m = 0; m < count; ++m) {
    const float* x = rows + m * inputs;
    std::uint8_t* q = s.codes[0] + m * s.strides[0];
    s.bad[m] = multiplier != nullptr
                   ? job.kernels.rows.quantize_affine(x, inputs, multiplier, multiplier + inputs, q)
                   : job.kernels.rows.quantize(x, inputs, net.record(0).x_quantizer, q);
  }
  return scratch_codes(s.codes[0], s.strides[0], s);
}

// The part of the next block's rows that layer i should ask for: by its share of the products.
void expect_next_rows(const Block& job, std::int64_t next, std::int64_t end, std::int64_t i,
                      LinearArgs& args) {
  const NetworkView& net = job.network;
  const std::byte* begin = row_at(job, next);
  const std::int64_t bytes = row_at(job, std::min(next + args.rows, end)) - begin;
  if (bytes <= 0) return;
  std::int64_t before = 0;
  std::int64_t own = 0;
  std::int64_t all = 0;
  for (std::int64_t k = 0; k < net.layers(); ++k) {
    const std::int64_t products =
        static_cast<std::int64_t>(net.record(k).inputs) * net.record(k).outputs;
    if (k < i) before += products;
    if (k == i) own = products;
    all += products;
  }
  args.prefetch = begin + bytes * before / all;
  args.prefetch_bytes = bytes * own / all;
}

// A layer's function, of the floats that its kernel gave, in place; to codes of the next layer
// where there is room for them.
void apply_function(const Block& job, std::int64_t i, float* rows, std::int64_t count,
                    std::int64_t stride, std::uint8_t* codes) {
  const NetworkView& net = job.network;
  const std::int64_t outputs = net.record(i).outputs;
  const Activation& activation = net.record(i).activation;
  const FloatKernels& kernels = job.kernels.floats;
  if (codes == nullptr && stride == outputs) {
    kernels.activate(rows, count * outputs, activation, rows);
    return;
  }
  for (std::int64_t m = 0; m < count; ++m) {
    float* const row = rows + m * stride;
    if (codes == nullptr)
      kernels.activate(row, outputs, activation, row);
    else
      kernels.activate_codes(row, outputs, activation, net.record(i + 1).x_quantizer,
                             codes + m * stride);
  }
}

// Static and affine networks: codes from layer to layer.
void run_static(const Block& job, const BlockScratch& s, std::int64_t first, std::int64_t count,
                std::int64_t end) {
  const NetworkView& net = job.network;
  std::memset(s.bad, 0, static_cast<std::size_t>(count));
  const LinearKernel* kernel = &kernel_of(job, 0, count);
  CodeRows x = job.rows.type == RowType::kPixels ? pixel_codes(job, first)
                                                 : quantized_codes(job, s, first, count);
  for (std::int64_t i = 0; i < net.layers(); ++i) {
    if (i > 0) kernel = &kernel_of(job, i, count);
    const bool last = i + 1 == net.layers();
    std::uint8_t* const codes = s.codes[(i + 1) % 2];
    const std::int64_t stride = last ? net.outputs() : s.strides[(i + 1) % 2];
    const bool function = net.has_function(i);
    const bool floats = last || function;
    float* const rows = last ? job.y + first * net.outputs() : s.floats[0];
    void* const y = floats ? static_cast<void*>(rows) : codes;
    LinearArgs args = make_args(net, i, kernel->form, x, count, y, stride);
    args.scratch = s.kernel;
    if (job.rows_far && first + count < end) expect_next_rows(job, first + count, end, i, args);
    if (!floats) give_codes(net, i, args);
    run_linear(*kernel, floats ? LinearOutput::kFloats : LinearOutput::kCodes, args);
    if (function) apply_function(job, i, rows, count, stride, last ? nullptr : codes);
    x = scratch_codes(codes, stride, s);
  }
  for (std::int64_t m = 0; m < count; ++m)
    if (s.bad[m]) fill_nan(job.y + (first + m) * net.outputs(), net.outputs());
}

void run_dynamic(const Block& job, const BlockScratch& s, std::int64_t first, std::int64_t count) {
  const NetworkView& net = job.network;
  const float* x = nullptr;
  std::int64_t x_stride = net.inputs();
  std::memset(s.bad, 0, static_cast<std::size_t>(count));
  if (job.rows.type == RowType::kPixels) {
    const auto* pixels = static_cast<const std::uint8_t*>(job.rows.data) + first * net.inputs();
    for (std::int64_t m = 0; m < count; ++m)
      look_up_pixels(net.tables(), net.channels(), pixels + m * net.inputs(), net.inputs(),
                     s.floats[0] + m * s.strides[0]);
    x = s.floats[0];
    x_stride = s.strides[0];
  } else {
    x = static_cast<const float*>(job.rows.data) + first * net.inputs();
  }
  for (std::int64_t i = 0; i < net.layers(); ++i) {
    const std::int64_t inputs = net.record(i).inputs;
    const std::int64_t stride = s.strides[i % 2];
    const std::int64_t y_stride = s.strides[(i + 1) % 2];
    for (std::int64_t m = 0; m < count; ++m) {
      const RowRange range = job.kernels.rows.row_range(x + m * x_stride, inputs);
      s.bad[m] = s.bad[m] || !range.finite;
      s.quantizers[m] = quantizer_from_range(range.lo, range.hi);
      job.kernels.rows.quantize(x + m * x_stride, inputs, s.quantizers[m], s.codes[0] + m * stride);
    }
    const bool last = i + 1 == net.layers();
    const LinearKernel& kernel = kernel_of(job, i, count);
    LinearArgs args = make_args(net, i, kernel.form, scratch_codes(s.codes[0], stride, s), count,
                                last ? job.y + first * net.outputs() : s.floats[(i + 1) % 2],
                                last ? net.outputs() : y_stride);
    args.scratch = s.kernel;
    args.row_quantizers = s.quantizers;
    run_linear(kernel, LinearOutput::kFloats, args);
    if (net.has_function(i))
      apply_function(job, i, static_cast<float*>(args.y), count, args.y_stride, nullptr);
    x = s.floats[(i + 1) % 2];
    x_stride = y_stride;
  }
  for (std::int64_t m = 0; m < count; ++m)
    if (s.bad[m]) fill_nan(job.y + (first + m) * net.outputs(), net.outputs());
}

}  // namespace

BlockScratch::BlockScratch(const NetworkView& network, std::int64_t block_rows,
                           std::int64_t for_kernels, std::byte* start)
    : codes{}, floats{}, strides{64, 64}, kernel_bytes(for_kernels), rows(block_rows) {
  for (std::int64_t i = 0; i < network.layers(); ++i)
    strides[i % 2] = std::max(strides[i % 2], width_of(network, i));
  const bool dynamic = network.input() == InputKind::kDynamic;
  std::int64_t at = 0;
  const auto take = [&at, start](std::int64_t size) {
    std::byte* piece = start != nullptr ? start + at : nullptr;
    at += aligned(size);
    return piece;
  };
  if (dynamic) {
    // Codes never outlive their layer: one buffer serves.
    codes[0] = reinterpret_cast<std::uint8_t*>(take(rows * std::max(strides[0], strides[1])));
    codes[1] = codes[0];
    for (int b : {0, 1}) floats[b] = reinterpret_cast<float*>(take(rows * strides[b] * 4));
    quantizers =
        reinterpret_cast<Quantizer*>(take(rows * static_cast<std::int64_t>(sizeof(Quantizer))));
  } else {
    for (int b : {0, 1}) codes[b] = reinterpret_cast<std::uint8_t*>(take(rows * strides[b]));
    quantizers = nullptr;
    if (function_between(network))
      floats[0] = reinterpret_cast<float*>(take(rows * std::max(strides[0], strides[1]) * 4));
  }
  bad = reinterpret_cast<bool*>(take(rows));
  kernel = take(0);
  kernel_at = at;
}

void run_block(const Block& block, const BlockScratch& scratch, std::int64_t first,
               std::int64_t count, std::int64_t end) {
  if (block.network.input() == InputKind::kDynamic)
    run_dynamic(block, scratch, first, count);
  else
    run_static(block, scratch, first, count, end);
}

}  // namespace fastmnist
