#include "runtime/executor.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "core/arithmetic.h"
#include "core/caches.h"
#include "core/threads.h"
#include "kernels/sizes.h"
#include "kernels/tables.h"
#include "runtime/linear.h"
#include "runtime/plan.h"
#include "runtime/shares.h"

namespace fastmnist {
namespace {

// Whether so many bytes of rows are more than a second-level cache may still hold: if not, asking
// for them early is a waste.
bool are_far(std::int64_t row_bytes) { return row_bytes > caches().l2 / 8 * 5; }

// What layer i takes (i = layers(): what the last one gives), at multiples of 64.
std::int64_t width_of(const NetworkView& network, std::int64_t i) {
  return aligned(i < network.layers() ? network.record(i).inputs : network.outputs());
}

// One block's working memory, carved from one allocation. Layer i reads the buffer i % 2.
struct Scratch {
  std::uint8_t* codes[2];
  float* floats[2];         // dynamic only
  std::int64_t strides[2];  // values from row to row, in both
  Quantizer* quantizers;    // dynamic only
  bool* bad;                // rows whose outputs are NaN
  std::byte* kernel;
  std::int64_t kernel_at;     // bytes before it
  std::int64_t kernel_bytes;  // of it
  std::int64_t rows;

  Scratch(const NetworkView& network, std::int64_t block_rows, std::int64_t for_kernels,
          std::byte* start)
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
    }
    bad = reinterpret_cast<bool*>(take(rows));
    kernel = take(0);
    kernel_at = at;
  }

  std::int64_t bytes() const { return kernel_at + aligned(kernel_bytes); }
};

struct Job {
  const NetworkView& network;
  const KernelTable& kernels;
  const PlanView& plan;
  const Unit* unit;  // nullptr where no kernel of these rows needs one
  bool threaded;     // several threads share the rows
  bool rows_far;     // more of them than stay in the second-level cache
  Rows rows;
  float* logits;
  std::byte* scratch;  // one piece per thread slot
  std::int64_t scratch_stride;
  std::int64_t scratch_rows;
  std::int64_t kernel_bytes;
  std::atomic<std::int64_t>* next_scratch;
};

// The plan's kernel. (A torch operator's packed bytes may change during a call; a kernel must not
// run without what it needs.)
const LinearKernel& kernel_of(const Job& job, std::int64_t layer, std::int64_t rows) {
  const LinearShape shape = shape_of(job.network, layer, rows);
  const LinearKernel& kernel = job.plan.kernel(layer, shape, job.threaded);
  const bool ready = (kernel.unit == nullptr || kernel.unit == job.unit) &&
                     scratch_bytes(kernel, shape) <= job.kernel_bytes;
  return ready ? kernel : job.kernels.linears[0];
}

void fill_nan(float* row, std::int64_t n) {
  std::fill(row, row + n, std::numeric_limits<float>::quiet_NaN());
}

const std::byte* row_at(const Job& job, std::int64_t row) {
  const std::int64_t value = job.rows.type == RowType::kPixels ? 1 : sizeof(float);
  return static_cast<const std::byte*>(job.rows.data) + row * job.network.inputs() * value;
}

CodeRows pixel_codes(const Job& job, std::int64_t first) {
  const std::int64_t inputs = job.network.inputs();
  const auto* all = static_cast<const std::uint8_t*>(job.rows.data);
  return {all + first * inputs, inputs, all, all + job.rows.count * inputs};
}

// All of a buffer of a block's codes may be read.
CodeRows scratch_codes(const std::uint8_t* codes, std::int64_t stride, const Scratch& s) {
  return {codes, stride, codes, codes + s.rows * stride};
}

CodeRows quantized_codes(const Job& job, const Scratch& s, std::int64_t first, std::int64_t count) {
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
void expect_next_rows(const Job& job, std::int64_t next, std::int64_t end, std::int64_t i,
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

// Static and affine networks: codes from layer to layer.
void run_static(const Job& job, const Scratch& s, std::int64_t first, std::int64_t count,
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
    void* const y = last ? static_cast<void*>(job.logits + first * net.outputs()) : codes;
    LinearArgs args = make_args(net, i, kernel->form, x, count, y, stride);
    args.scratch = s.kernel;
    if (job.rows_far && first + count < end) expect_next_rows(job, first + count, end, i, args);
    if (!last) give_codes(net, i, args);
    run_linear(*kernel, last ? LinearOutput::kFloats : LinearOutput::kCodes, args);
    x = scratch_codes(codes, stride, s);
  }
  for (std::int64_t m = 0; m < count; ++m)
    if (s.bad[m]) fill_nan(job.logits + (first + m) * net.outputs(), net.outputs());
}

// The real values of one row of pixels: a table of 256 values per channel, channel-major features.
void look_up_pixels(const NetworkView& net, const std::uint8_t* pixels, float* row) {
  const std::int64_t per_channel = net.inputs() / net.channels();
  for (std::int64_t k = 0; k < net.inputs(); ++k)
    row[k] = net.tables()[k / per_channel * 256 + pixels[k]];
}

void run_dynamic(const Job& job, const Scratch& s, std::int64_t first, std::int64_t count) {
  const NetworkView& net = job.network;
  const float* x = nullptr;
  std::int64_t x_stride = net.inputs();
  std::memset(s.bad, 0, static_cast<std::size_t>(count));
  if (job.rows.type == RowType::kPixels) {
    const auto* pixels = static_cast<const std::uint8_t*>(job.rows.data) + first * net.inputs();
    for (std::int64_t m = 0; m < count; ++m)
      look_up_pixels(net, pixels + m * net.inputs(), s.floats[0] + m * s.strides[0]);
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
                                last ? job.logits + first * net.outputs() : s.floats[(i + 1) % 2],
                                last ? net.outputs() : y_stride);
    args.scratch = s.kernel;
    args.row_quantizers = s.quantizers;
    run_linear(kernel, LinearOutput::kFloats, args);
    x = s.floats[(i + 1) % 2];
    x_stride = y_stride;
  }
  for (std::int64_t m = 0; m < count; ++m)
    if (s.bad[m]) fill_nan(job.logits + (first + m) * net.outputs(), net.outputs());
}

void run_range(void* context, std::int64_t begin, std::int64_t end) {
  const Job& job = *static_cast<const Job*>(context);
  // Each running range takes a piece of scratch memory of its own.
  const std::int64_t slot = job.next_scratch->fetch_add(1, std::memory_order_relaxed);
  const Scratch scratch(job.network, job.scratch_rows, job.kernel_bytes,
                        job.scratch + slot * job.scratch_stride);
  const UnitGuard guard(job.unit);
  for (std::int64_t first = begin; first < end; first += job.scratch_rows) {
    const std::int64_t count = std::min(job.scratch_rows, end - first);
    if (job.network.input() == InputKind::kDynamic)
      run_dynamic(job, scratch, first, count);
    else
      run_static(job, scratch, first, count, end);
  }
}

}  // namespace

Status check_rows(const NetworkView& network, RowType type) {
  if (type == RowType::kPixels && network.pixels() == PixelKind::kNone)
    return Status::invalid(
        "x",
        "float32 rows, as this model does not know what a uint8 pixel stands for: calibrate on "
        "pixels, or give mean= and std=, or pixels=\"0..255\", when quantizing",
        "uint8");
  return {};
}

Status run_network(const NetworkView& network, const Rows& rows, float* logits, ScratchPool* pool,
                   int max_threads) {
  if (Status bad = check_rows(network, rows.type); !bad.ok()) return bad;
  if (rows.count == 0) return {};
  Result<const KernelTable*> active = active_kernels();
  if (!active.ok()) return std::move(active).status();
  const KernelTable& kernels = **active;
  const PlanView plan(kernels, network);
  const std::int64_t block = std::min(plan.block_rows(), round_up(rows.count, kBlockRowsStep));
  // Shares are for kernels that use a unit, or not; and which kernels serve depends on the shares.
  const std::int64_t rows_at_once = std::min(rows.count, block);
  PlanView::Needs needs = plan.needs(rows_at_once);
  Result<Shares> shares =
      shares_of(rows.count, network.products_per_row(), needs.unit != nullptr, max_threads);
  if (!shares.ok()) return std::move(shares).status();
  const auto [grain, chunks] = *shares;
  const bool threaded = chunks > 1;
  if (threaded) {
    const PlanView::Needs shared = plan.needs(rows_at_once, threaded);
    if (shared.unit != nullptr) needs.unit = shared.unit;
    needs.scratch_bytes = std::max(needs.scratch_bytes, shared.scratch_bytes);
  }
  const std::int64_t piece = aligned(Scratch(network, block, needs.scratch_bytes, nullptr).bytes());
  const ScratchLease scratch(pool, piece * chunks);
  if (!scratch.ok()) return Status::out_of_memory();
  std::atomic<std::int64_t> next_scratch{0};
  const std::int64_t value = rows.type == RowType::kPixels ? 1 : sizeof(float);
  const bool rows_far = rows.count > block && are_far(rows.count * network.inputs() * value);
  Job job{network,       kernels, plan,  needs.unit,          threaded,     rows_far, rows, logits,
          scratch.get(), piece,   block, needs.scratch_bytes, &next_scratch};
  return parallel_for(rows.count, grain, run_range, &job);
}

}  // namespace fastmnist
