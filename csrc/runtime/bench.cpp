#include "runtime/bench.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>
#include <utility>

#include "core/caches.h"
#include "core/threads.h"
#include "kernels/sizes.h"
#include "runtime/candidates.h"
#include "runtime/choice.h"
#include "runtime/executor.h"
#include "runtime/linear.h"
#include "runtime/plan.h"
#include "runtime/plan_writer.h"
#include "runtime/scratch.h"

namespace fastmnist {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kMostRows = kRowsOfClass[kRowClasses - 1];
constexpr double kSecondsPerCase = 30e-6;  // divided by the least time: a case's turns
constexpr int kMostRepeats = 12;
constexpr int kFewestRepeats = 3;
constexpr int kFewestThreaded = 8;  // with several threads: they do not always start at once
constexpr double kFarBehind = 2.0;
constexpr int kInARow = 6;
// Weights of many megabytes, driven out by those of the others, take some calls to come back into
// the third-level cache (a Linear of 4,096: 1,190, 1,007, 642, 634 µs); what takes longer is not
// bound by reading them.
constexpr double kLongCall = 100e-6;
constexpr int kCallsToComeBack = 4;
constexpr double kVeryLongCall = 8e-3;
constexpr std::int64_t kBlockMeasureRows = 384;

// Of a block, in and out: what a second-level cache may hold beside weights.
std::int64_t block_activations() { return caches().l2 / 64 * 5; }

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class Random {
 public:
  std::uint32_t next() {
    state_ = state_ * 1664525u + 1013904223u;
    return state_;
  }
  std::uint32_t byte() { return next() >> 24; }

 private:
  std::uint32_t state_ = 1;
};

// One in so many inputs of an image draws anew whether it is zero: strokes are some pixels wide.
// (In MNIST 18 % of the pixels are ink and 21 % of their pairs; 28 % would be if each drew.)
constexpr std::uint32_t kStroke = 4;

void fill_known(std::span<const std::uint8_t> zeros, bool image, std::uint8_t* codes,
                std::int64_t rows, std::int64_t stride) {
  Random random;
  for (std::int64_t m = 0; m < rows; ++m) {
    std::uint32_t drawn = random.next() >> 8;
    for (std::size_t k = 0; k < zeros.size(); ++k) {
      if (!image || random.byte() < 256 / kStroke) drawn = random.next() >> 8;
      // Of 2^24 values the first 2^24 * zeros / kZerosOf.
      const bool zero = std::uint64_t{drawn} * kZerosOf < std::uint64_t{zeros[k]} << 24;
      codes[m * stride + static_cast<std::int64_t>(k)] =
          zero ? std::uint8_t{0} : static_cast<std::uint8_t>(1 + random.byte() * 255 / 256);
    }
  }
}

void fill_unknown(std::uint8_t* codes, std::int64_t n) {
  Random random;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint32_t drawn = random.next();
    codes[i] = (drawn >> 31) != 0 ? static_cast<std::uint8_t>(drawn >> 16) : std::uint8_t{0};
  }
}

// Rows of floats whose codes have the zeros that are known; all the same number else.
Status fill_floats(const NetworkView& network, float* x, std::int64_t rows) {
  const std::int64_t inputs = network.inputs();
  std::fill_n(x, rows * inputs, 0.5f);
  if (network.input() == InputKind::kDynamic || network.input_zeros(0).empty()) return {};
  const ScratchLease memory(nullptr, rows * inputs);
  if (!memory.ok()) return Status::out_of_memory();
  auto* const codes = reinterpret_cast<std::uint8_t*>(memory.get());
  fill_codes(network, 0, codes, rows, inputs);
  const float* multiplier = network.tables();
  const Quantizer& quantizer = network.record(0).x_quantizer;
  for (std::int64_t i = 0; i < rows * inputs; ++i) {
    const auto code = static_cast<float>(codes[i]);
    const std::int64_t k = i % inputs;
    x[i] = network.input() == InputKind::kAffine
               ? multiplier[k] != 0 ? (code - multiplier[inputs + k]) / multiplier[k] : 0
               : (code - static_cast<float>(quantizer.zero_point)) * quantizer.scale;
  }
  return {};
}

// Times candidates in turns; the least time of each. One that is far behind drops out.
template <typename Run>
std::vector<double> least_times(int candidates, int first, const Run& run,
                                int fewest = kFewestRepeats) {
  std::vector<double> least(static_cast<std::size_t>(candidates),
                            std::numeric_limits<double>::infinity());
  double best = least[0];
  int repeats = fewest;
  for (int turn = 0; turn <= repeats; ++turn)
    for (int k = 0; k < candidates; ++k) {
      const int i = (first + k) % candidates;
      double& own = least[static_cast<std::size_t>(i)];
      if (turn > 2 && own > kFarBehind * best) continue;  // twice: it may have been interrupted
      // Several in a row, as callers in a loop see it, not right behind another kernel.
      for (int call = 0; call < kInARow; ++call) {
        const auto start = Clock::now();
        run(i);
        const double seconds = seconds_since(start);
        if (turn > 0) own = std::min(own, seconds);  // turn 0 warms up
        const int enough = seconds > kVeryLongCall ? 2
                           : seconds > kLongCall   ? kCallsToComeBack
                                                   : kInARow;
        if (call + 1 >= enough) break;
      }
      best = std::min(best, own);
      if (turn == 1 && k + 1 == candidates)
        repeats = std::clamp(static_cast<int>(kSecondsPerCase / best), fewest, kMostRepeats);
    }
  return least;
}

// One thread's rows, outputs and scratch memory, for one layer.
class Bench {
 public:
  Bench(const KernelTable& kernels, const NetworkView& network, std::int64_t layer)
      : network_(network),
        layer_(layer),
        shape_(shape_of(network, layer, kMostRows)),
        in_place_(takes_pixels(network, layer) && network.pixels() == PixelKind::kCodes),
        x_stride_(in_place_ ? shape_.inputs : aligned(shape_.inputs)),
        y_stride_(aligned(shape_.outputs)),
        x_(nullptr, kMostRows * x_stride_),
        y_(nullptr, kMostRows * y_stride_ * 4),
        scratch_(nullptr, most_scratch(kernels, network, layer)),
        row_quantizers_(kMostRows, Quantizer{1.0f, 1.0f, 3}) {
    if (ok())
      fill_codes(network, layer, reinterpret_cast<std::uint8_t*>(x_.get()), kMostRows, x_stride_);
  }

  bool ok() const { return x_.ok() && y_.ok() && scratch_.ok(); }  // else there is no memory

  void run(const LinearKernel& kernel, std::int64_t rows) const {
    const auto* codes = reinterpret_cast<const std::uint8_t*>(x_.get());
    const CodeRows x = {codes, x_stride_, codes,
                        codes + (in_place_ ? rows : kMostRows) * x_stride_};
    LinearArgs args = make_args(network_, layer_, kernel.form, x, rows, y_.get(), y_stride_);
    if (network_.input() == InputKind::kDynamic) args.row_quantizers = row_quantizers_.data();
    if (shape_.codes_out) give_codes(network_, layer_, args);
    args.scratch = scratch_.get();
    run_linear(kernel, shape_.codes_out ? LinearOutput::kCodes : LinearOutput::kFloats, args);
  }

 private:
  static std::int64_t most_scratch(const KernelTable& kernels, const NetworkView& network,
                                   std::int64_t layer) {
    std::int64_t most = 0;
    for (const LinearKernel& kernel : all_of(kernels))
      if (network.has_form(layer, kernel.form))
        most = std::max(most, scratch_bytes(kernel, shape_of(network, layer, kMostRows)));
    return most;
  }

  const NetworkView& network_;
  std::int64_t layer_;
  LinearShape shape_;
  bool in_place_;  // the caller's rows: close together, and nothing may be read behind them
  std::int64_t x_stride_;
  std::int64_t y_stride_;
  ScratchLease x_;
  ScratchLease y_;
  ScratchLease scratch_;
  std::vector<Quantizer> row_quantizers_;
};

// All threads at once.
struct Crowd {
  const std::vector<std::unique_ptr<Bench>>& benches;
  const LinearKernel& kernel;
  std::int64_t rows;

  static void run(void* context, std::int64_t begin, std::int64_t end) {
    const Crowd& crowd = *static_cast<const Crowd*>(context);
    const UnitGuard guard(crowd.kernel.unit);
    for (std::int64_t i = begin; i < end; ++i)
      crowd.benches[static_cast<std::size_t>(i)]->run(crowd.kernel, crowd.rows);
  }
};

}  // namespace

bool takes_pixels(const NetworkView& network, std::int64_t layer) {
  return layer == 0 && network.pixels() != PixelKind::kNone;
}

void fill_codes(const NetworkView& network, std::int64_t i, std::uint8_t* codes, std::int64_t rows,
                std::int64_t stride) {
  fill_unknown(codes, rows * stride);
  fill_known(network.input_zeros(i), takes_pixels(network, i), codes, rows, stride);
}

Result<std::vector<KernelTime>> measure_layer(const KernelTable& kernels,
                                              const NetworkView& network, std::int64_t layer,
                                              int threads) {
  std::vector<std::unique_ptr<Bench>> benches;
  for (int i = 0; i < threads; ++i) {
    benches.push_back(std::make_unique<Bench>(kernels, network, layer));
    if (!benches.back()->ok()) return Status::out_of_memory();
  }
  Status last;
  std::vector<KernelTime> times;
  for (int c = threads > 1 ? kFirstThreadedClass : 0; c < kRowClasses; ++c) {
    const std::int64_t rows = kRowsOfClass[c];
    const std::vector<int> candidates =
        candidates_of(kernels, network, layer, shape_of(network, layer, rows));
    const int usual = ruled_index(kernels, network, layer, rows);
    const auto first = std::find(candidates.begin(), candidates.end(), usual);
    const UnitGuard guard(threads > 1 ? nullptr : unit_of(kernels));
    const std::vector<double> least = least_times(
        static_cast<int>(candidates.size()), static_cast<int>(first - candidates.begin()),
        [&](int i) {
          const LinearKernel& kernel = kernels.linears[candidates[static_cast<std::size_t>(i)]];
          if (threads > 1) {
            Crowd crowd{benches, kernel, rows};
            last = parallel_for(threads, 1, Crowd::run, &crowd);
          } else {
            benches[0]->run(kernel, rows);
          }
        },
        threads > 1 ? kFewestThreaded : kFewestRepeats);
    if (!last.ok()) return last;
    for (std::size_t i = 0; i < candidates.size(); ++i)
      times.push_back({rows, candidates[i], least[i]});
  }
  return times;
}

Result<double> measure_set_up(const KernelTable& kernels) {
  constexpr int kTurns = 200;
  constexpr double kElsewhere = 1e-6;
  constexpr std::int64_t kRows = 16;
  constexpr std::int64_t kInputs = 64;
  constexpr std::int64_t kOutputs = 32;
  const LinearShape shape{kRows, kInputs, kOutputs, false, false};
  const LinearKernel* kernel = nullptr;
  for (const LinearKernel& own : all_of(kernels))
    if (own.unit != nullptr && own.form == WeightForm::kDense && can(own, shape)) kernel = &own;
  if (kernel == nullptr) return 0.0;
  const std::vector<std::int8_t> weight(kInputs * kOutputs, 1);
  const std::vector<float> scale(kOutputs, 1.0f);
  NetworkSpec spec;
  spec.layers.push_back({weight.data(),
                         scale.data(),
                         nullptr,
                         kInputs,
                         kOutputs,
                         {0.0f, 1.0f},
                         Quantizer{1.0f, 1.0f, 0}});
  Result<std::int64_t> bytes = packed_network_bytes(spec);
  if (!bytes.ok()) return std::move(bytes).status();
  const ScratchLease memory(nullptr, *bytes);
  if (!memory.ok()) return Status::out_of_memory();
  const std::span<std::byte> buffer(memory.get(), static_cast<std::size_t>(*bytes));
  if (Status bad = pack_network(spec, buffer); !bad.ok()) return bad;
  Result<NetworkView> network = view_network(buffer);
  if (!network.ok()) return std::move(network).status();
  const Bench bench(kernels, *network, 0);
  if (!bench.ok()) return Status::out_of_memory();
  // As measure_layer does it: set up once, and in a row.
  double in_a_row = std::numeric_limits<double>::infinity();
  {
    const UnitGuard guard(kernel->unit);
    for (int turn = 0; turn < kTurns; ++turn) {
      const auto start = Clock::now();
      for (int i = 0; i < kInARow; ++i) bench.run(*kernel, kRows);
      in_a_row = std::min(in_a_row, seconds_since(start) / kInARow);
    }
  }
  // As it is called: between two calls callers do something else, and the unit falls asleep.
  std::vector<double> alone;
  for (int turn = 0; turn < kTurns; ++turn) {
    for (const auto left = Clock::now(); seconds_since(left) < kElsewhere;) {
    }
    const auto start = Clock::now();
    {
      const UnitGuard guard(kernel->unit);
      bench.run(*kernel, kRows);
    }
    alone.push_back(seconds_since(start));
  }
  std::nth_element(alone.begin(), alone.begin() + kTurns / 2, alone.end());
  return std::max(0.0, alone[kTurns / 2] - in_a_row);
}

Result<std::vector<BlockTime>> measure_blocks(const KernelTable& kernels,
                                              std::span<std::byte> buffer) {
  Result<NetworkView> viewed = view_network(buffer);
  if (!viewed.ok()) return std::move(viewed).status();
  const NetworkView& network = *viewed;
  write_block_rows(kernels, 0, buffer);
  const std::int64_t ruled = PlanView(kernels, network).block_rows();
  std::vector<BlockTime> blocks;
  for (const std::int64_t rows : {32, 64, 96, 128, 160, 192, 288, 384})
    if (rows == ruled || 2 * rows * network.widest() <= block_activations())
      blocks.push_back({rows, 0, false});
  int usual = 0;
  for (std::size_t i = 0; i < blocks.size(); ++i)
    if (blocks[i].block_rows == ruled) usual = static_cast<int>(i);
  if (blocks.size() > 1) {
    const std::int64_t count = kBlockMeasureRows;
    const bool pixels = network.pixels() != PixelKind::kNone;
    const ScratchLease rows(nullptr, count * network.inputs() * (pixels ? 1 : 4));
    const ScratchLease logits(nullptr, count * network.outputs() * 4);
    if (!rows.ok() || !logits.ok()) return Status::out_of_memory();
    Status last;
    if (pixels)
      fill_codes(network, 0, reinterpret_cast<std::uint8_t*>(rows.get()), count, network.inputs());
    else
      last = fill_floats(network, reinterpret_cast<float*>(rows.get()), count);
    if (!last.ok()) return last;
    ScratchPool pool;
    const std::vector<double> least =
        least_times(static_cast<int>(blocks.size()), usual, [&](int i) {
          write_block_rows(kernels, blocks[static_cast<std::size_t>(i)].block_rows, buffer);
          last = run_network(network,
                             {pixels ? RowType::kPixels : RowType::kFloat32, rows.get(), count},
                             reinterpret_cast<float*>(logits.get()), &pool, /*max_threads=*/1);
        });
    if (!last.ok()) return last;
    for (std::size_t i = 0; i < blocks.size(); ++i)
      blocks[i].seconds_per_row = least[i] / static_cast<double>(count);
    usual = fastest(least, usual);
  }
  if (!blocks.empty()) blocks[static_cast<std::size_t>(usual)].chosen = true;
  write_block_rows(
      kernels, blocks.empty() ? ruled : blocks[static_cast<std::size_t>(usual)].block_rows, buffer);
  return blocks;
}

}  // namespace fastmnist
