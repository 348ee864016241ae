#include "runtime/executor.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>

#include "core/arithmetic.h"
#include "core/errors.h"
#include "core/threads.h"
#include "kernels/tables.h"
#include "runtime/linear.h"

namespace fastmnist {
namespace {

// Rows that go through all layers together: enough to use loaded weights often, few enough that
// their activations stay in the second-level cache. A multiple of every kernel's rows per tile.
constexpr std::int64_t kRowsStep = 96;
constexpr std::int64_t kActivationBytes = 160 * 1024;
// Weights beyond the second-level cache are read anew for every block: then blocks are larger.
constexpr std::int64_t kCachedWeights = 1024 * 1024;
// A thread's share must last some 40 µs, or handing it over costs more than it saves.
constexpr std::int64_t kProductsPerThread = 12'000'000;
constexpr std::int64_t kTileProductsPerThread = 40'000'000;

std::int64_t aligned(std::int64_t bytes) { return (bytes + 63) / 64 * 64; }

// One block's working memory, carved from one allocation.
struct Scratch {
  std::uint8_t* codes[2];
  float* floats[2];  // dynamic only
  Quantizer* quantizers;
  bool* bad;  // rows whose outputs are NaN
  std::byte* kernel;
  std::int64_t stride;
  std::int64_t rows;

  static std::int64_t bytes(const NetworkView& network, const KernelTable& kernels,
                            std::int64_t rows) {
    const std::int64_t stride = aligned(network.widest());
    const std::int64_t floats = network.input() == InputKind::kDynamic ? 2 * rows * stride * 4 : 0;
    return 2 * rows * stride + floats +
           aligned(rows * static_cast<std::int64_t>(sizeof(Quantizer))) + aligned(rows) +
           aligned(linear_scratch_bytes(kernels, stride));
  }

  Scratch(const NetworkView& network, std::int64_t block_rows, std::byte* at)
      : stride(aligned(network.widest())), rows(block_rows) {
    const auto take = [&at](std::int64_t size) {
      std::byte* start = at;
      at += size;
      return start;
    };
    for (auto& c : codes) c = reinterpret_cast<std::uint8_t*>(take(rows * stride));
    const bool dynamic = network.input() == InputKind::kDynamic;
    for (auto& f : floats)
      f = dynamic ? reinterpret_cast<float*>(take(rows * stride * 4)) : nullptr;
    quantizers = reinterpret_cast<Quantizer*>(
        take(aligned(rows * static_cast<std::int64_t>(sizeof(Quantizer)))));
    bad = reinterpret_cast<bool*>(take(aligned(rows)));
    kernel = at;
  }
};

struct Job {
  const NetworkView& network;
  const KernelTable& kernels;
  const TileKernels* tiles;  // nullptr where these rows go by row kernels
  Rows rows;
  float* logits;
  std::byte* scratch;  // one piece per thread slot
  std::int64_t scratch_stride;
  std::int64_t scratch_rows;
  std::atomic<std::int64_t>* next_scratch;
};

void fill_nan(float* row, std::int64_t n) {
  std::fill(row, row + n, std::numeric_limits<float>::quiet_NaN());
}

// Static and affine networks: codes from layer to layer.
void run_static(const Job& job, const Scratch& s, std::int64_t first, std::int64_t count) {
  const NetworkView& net = job.network;
  const std::int64_t inputs = net.inputs();
  const std::uint8_t* x = nullptr;
  std::int64_t x_stride = inputs;
  std::int64_t x_readable = s.rows * s.stride;
  std::memset(s.bad, 0, static_cast<std::size_t>(count));
  if (job.rows.type == RowType::kPixels) {
    x = static_cast<const std::uint8_t*>(job.rows.data) + first * inputs;
    x_readable = (job.rows.count - first) * inputs;
  } else {
    const float* rows = static_cast<const float*>(job.rows.data) + first * inputs;
    const float* multiplier = net.input() == InputKind::kAffine ? net.tables() : nullptr;
    for (std::int64_t m = 0; m < count; ++m) {
      std::uint8_t* q = s.codes[0] + m * s.stride;
      s.bad[m] =
          multiplier != nullptr
              ? job.kernels.quantize_affine(rows + m * inputs, inputs, multiplier,
                                            multiplier + inputs, q)
              : job.kernels.quantize(rows + m * inputs, inputs, net.record(0).x_quantizer, q);
    }
    x = s.codes[0];
    x_stride = s.stride;
  }
  for (std::int64_t i = 0; i < net.layers(); ++i) {
    const LayerRecord& layer = net.record(i);
    LinearArgs args{};
    args.x = x;
    args.x_stride = x_stride;
    args.x_readable = x_readable;
    args.rows = count;
    args.w = net.dense(i);
    args.x_quantizer = layer.x_quantizer;
    args.clamp = layer.clamp;
    args.scratch = s.kernel;
    if (i + 1 < net.layers()) {
      args.y = s.codes[(i + 1) % 2];
      args.y_stride = s.stride;
      args.y_quantizer = net.record(i + 1).x_quantizer;
      args.y_bounded = layer.y_bounded != 0;
      run_linear(job.kernels, job.tiles, LinearOutput::kCodes, args);
      x = s.codes[(i + 1) % 2];
      x_stride = s.stride;
      x_readable = s.rows * s.stride;
    } else {
      args.y = job.logits + first * net.outputs();
      args.y_stride = net.outputs();
      run_linear(job.kernels, job.tiles, LinearOutput::kFloats, args);
    }
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
      look_up_pixels(net, pixels + m * net.inputs(), s.floats[0] + m * s.stride);
    x = s.floats[0];
    x_stride = s.stride;
  } else {
    x = static_cast<const float*>(job.rows.data) + first * net.inputs();
  }
  for (std::int64_t i = 0; i < net.layers(); ++i) {
    const LayerRecord& layer = net.record(i);
    for (std::int64_t m = 0; m < count; ++m) {
      const RowRange range = job.kernels.row_range(x + m * x_stride, layer.inputs);
      s.bad[m] = s.bad[m] || !range.finite;
      s.quantizers[m] = quantizer_from_range(range.lo, range.hi);
      job.kernels.quantize(x + m * x_stride, layer.inputs, s.quantizers[m],
                           s.codes[0] + m * s.stride);
    }
    const bool last = i + 1 == net.layers();
    LinearArgs args{};
    args.x = s.codes[0];
    args.x_stride = s.stride;
    args.x_readable = s.rows * s.stride;
    args.rows = count;
    args.w = net.dense(i);
    args.scratch = s.kernel;
    args.row_quantizers = s.quantizers;
    args.clamp = layer.clamp;
    args.y = last ? job.logits + first * net.outputs() : s.floats[(i + 1) % 2];
    args.y_stride = last ? net.outputs() : s.stride;
    run_linear(job.kernels, job.tiles, LinearOutput::kFloats, args);
    x = s.floats[(i + 1) % 2];
    x_stride = s.stride;
  }
  for (std::int64_t m = 0; m < count; ++m)
    if (s.bad[m]) fill_nan(job.logits + (first + m) * net.outputs(), net.outputs());
}

void run_range(void* context, std::int64_t begin, std::int64_t end) {
  const Job& job = *static_cast<const Job*>(context);
  // Each running range takes a piece of scratch memory of its own.
  const std::int64_t slot = job.next_scratch->fetch_add(1, std::memory_order_relaxed);
  const Scratch scratch(job.network, job.scratch_rows, job.scratch + slot * job.scratch_stride);
  const TileGuard guard(job.tiles);
  for (std::int64_t first = begin; first < end; first += job.scratch_rows) {
    const std::int64_t count = std::min(job.scratch_rows, end - first);
    if (job.network.input() == InputKind::kDynamic)
      run_dynamic(job, scratch, first, count);
    else
      run_static(job, scratch, first, count);
  }
}

std::int64_t products_per_row(const NetworkView& network) {
  std::int64_t products = 0;
  for (std::int64_t i = 0; i < network.layers(); ++i)
    products += static_cast<std::int64_t>(network.record(i).inputs) * network.record(i).outputs;
  return products;
}

}  // namespace

void check_rows(const NetworkView& network, RowType type) {
  if (type == RowType::kPixels && network.pixels() == PixelKind::kNone)
    invalid("x",
            "float32 rows, as this model does not know what a uint8 pixel stands for: calibrate on "
            "pixels or give mean= and std= when quantizing",
            "uint8");
}

void run_network(const NetworkView& network, const Rows& rows, float* logits, ScratchPool* pool) {
  check_rows(network, rows.type);
  if (rows.count == 0) return;
  const KernelTable& kernels = active_kernels();
  const TileKernels* tiles = rows.count >= kTilesFromRows ? kernels.tiles : nullptr;
  const std::int64_t products = std::max<std::int64_t>(1, products_per_row(network));
  const std::int64_t fit = kActivationBytes / (2 * aligned(network.widest()));
  const std::int64_t steps =
      products > kCachedWeights ? 3 : std::clamp<std::int64_t>(fit / kRowsStep, 1, 2);
  const std::int64_t block = std::min(steps * kRowsStep, (rows.count + 31) / 32 * 32);
  // Chunks of whole blocks, large enough that a thread's share is worth waking it for, and few
  // enough that each can have scratch memory of its own.
  const std::int64_t worth =
      (tiles != nullptr ? kTileProductsPerThread : kProductsPerThread) / products;
  std::int64_t grain = rows.count;
  std::int64_t chunks = 1;
  if (rows.count > std::max(worth, kRowsStep)) {
    const std::int64_t threads = num_threads();
    const std::int64_t share = std::max((rows.count + threads - 1) / threads, worth);
    grain = (share + kRowsStep - 1) / kRowsStep * kRowsStep;
    chunks = (rows.count + grain - 1) / grain;
  }
  const std::int64_t piece = aligned(Scratch::bytes(network, kernels, block));
  const ScratchLease scratch(pool, piece * chunks);
  std::atomic<std::int64_t> next_scratch{0};
  Job job{network, kernels, tiles, rows, logits, scratch.get(), piece, block, &next_scratch};
  if (chunks == 1)
    run_range(&job, 0, rows.count);
  else
    parallel_for(rows.count, grain, run_range, &job);
}

}  // namespace fastmnist
