#include "runtime/planner.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "bindings/errors.h"  // for now
#include "core/threads.h"
#include "kernels/sizes.h"
#include "kernels/tables.h"
#include "runtime/executor.h"
#include "runtime/linear.h"
#include "runtime/plan.h"
#include "runtime/scratch.h"

namespace fastmnist {
namespace {

using bindings::invalid;
using bindings::unwrap;
using Clock = std::chrono::steady_clock;

constexpr std::int64_t kMostRows = kRowsOfClass[kRowClasses - 1];
constexpr double kSecondsPerCase = 30e-6;  // divided by the least time: a case's turns
constexpr int kMostRepeats = 12;
constexpr int kFewestRepeats = 3;
constexpr int kFewestThreaded = 8;  // with several threads: they do not always start at once
constexpr double kFarBehind = 2.0;
constexpr int kInARow = 6;
constexpr double kLongCall = 100e-6;
constexpr double kNoise = 0.03;
constexpr std::int64_t kBlockActivations = 160 * 1024;
constexpr std::int64_t kBlockMeasureRows = 384;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Numbers like a hidden layer's codes: half zeros, else anything. (Tile products are slower on
// random bytes than on zeros.)
void fill_codes(std::uint8_t* codes, std::int64_t n) {
  std::uint32_t state = 1;
  for (std::int64_t i = 0; i < n; ++i) {
    state = state * 1664525u + 1013904223u;
    codes[i] = (state >> 31) != 0 ? static_cast<std::uint8_t>(state >> 16) : std::uint8_t{0};
  }
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
        if (call > 0 && seconds > kLongCall) break;
      }
      best = std::min(best, own);
      if (turn == 1 && k + 1 == candidates)
        repeats = std::clamp(static_cast<int>(kSecondsPerCase / best), fewest, kMostRepeats);
    }
  return least;
}

// The usual choice, unless another is faster by more than the noise.
int fastest(const std::vector<double>& times, int usual) {
  int best = usual;
  for (int i = 0; i < static_cast<int>(times.size()); ++i)
    if (times[static_cast<std::size_t>(i)] < times[static_cast<std::size_t>(best)]) best = i;
  const double gain =
      1.0 - times[static_cast<std::size_t>(best)] / times[static_cast<std::size_t>(usual)];
  return gain > kNoise ? best : usual;
}

std::span<const LinearKernel> all_of(const KernelTable& kernels) {
  return {kernels.linears, static_cast<std::size_t>(kernels.linear_count)};
}

// The one that any of the kernels needs: a set has no more.
const Unit* unit_of(const KernelTable& kernels) {
  for (const LinearKernel& kernel : all_of(kernels))
    if (kernel.unit != nullptr) return kernel.unit;
  return nullptr;
}

// Kernels that can compute a layer, for so many rows, in the forms of weights that it has.
std::vector<int> candidates_of(const KernelTable& kernels, const NetworkView& network,
                               std::int64_t layer, std::int64_t rows) {
  std::vector<int> candidates;
  for (int i = 0; i < kernels.linear_count; ++i)
    if (network.has_form(layer, kernels.linears[i].form) &&
        can(kernels.linears[i], shape_of(network, layer, rows)))
      candidates.push_back(i);
  return candidates;
}

int ruled_index(const KernelTable& kernels, const NetworkView& network, std::int64_t layer,
                std::int64_t rows) {
  const LinearShape shape = shape_of(network, layer, rows);
  return static_cast<int>(&ruled_kernel(kernels, network, layer, shape) - kernels.linears);
}

void check_choices(const KernelTable& kernels, const NetworkView& network,
                   std::span<const int> choices) {
  if (static_cast<std::int64_t>(choices.size()) != network.layers() * kRowClasses)
    invalid("choices", std::to_string(kRowClasses) + " kernels per layer",
            std::to_string(choices.size()));
  for (const int choice : choices)
    if (choice < 0 || choice >= kernels.linear_count)
      invalid("choices", "indexes of the instruction set's kernels", std::to_string(choice));
}

NetworkHeader& header_of(std::span<std::byte> buffer) {
  return *reinterpret_cast<NetworkHeader*>(buffer.data());
}

// One thread's rows, outputs and scratch memory, for one layer.
class Bench {
 public:
  Bench(const KernelTable& kernels, const NetworkView& network, std::int64_t layer)
      : network_(network),
        layer_(layer),
        shape_(shape_of(network, layer, kMostRows)),
        x_stride_(aligned(shape_.inputs)),
        y_stride_(aligned(shape_.outputs)),
        x_(nullptr, kMostRows * x_stride_),
        y_(nullptr, kMostRows * y_stride_ * 4),
        scratch_(nullptr, most_scratch(kernels, network, layer)),
        row_quantizers_(kMostRows, Quantizer{1.0f, 1.0f, 3}) {
    fill_codes(reinterpret_cast<std::uint8_t*>(x_.get()), kMostRows * x_stride_);
  }

  void run(const LinearKernel& kernel, std::int64_t rows) const {
    const auto* codes = reinterpret_cast<const std::uint8_t*>(x_.get());
    const CodeRows x = {codes, x_stride_, codes, codes + kMostRows * x_stride_};
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

std::vector<KernelTime> measure_layer(const KernelTable& kernels, const NetworkView& network,
                                      std::int64_t layer, int threads) {
  std::vector<std::unique_ptr<Bench>> benches;
  for (int i = 0; i < threads; ++i)
    benches.push_back(std::make_unique<Bench>(kernels, network, layer));
  std::vector<KernelTime> times;
  for (int c = threads > 1 ? kFirstThreadedClass : 0; c < kRowClasses; ++c) {
    const std::int64_t rows = kRowsOfClass[c];
    const std::vector<int> candidates = candidates_of(kernels, network, layer, rows);
    const int usual = ruled_index(kernels, network, layer, rows);
    const auto first = std::find(candidates.begin(), candidates.end(), usual);
    const UnitGuard guard(threads > 1 ? nullptr : unit_of(kernels));
    const std::vector<double> least = least_times(
        static_cast<int>(candidates.size()), static_cast<int>(first - candidates.begin()),
        [&](int i) {
          const LinearKernel& kernel = kernels.linears[candidates[static_cast<std::size_t>(i)]];
          if (threads > 1) {
            Crowd crowd{benches, kernel, rows};
            unwrap(parallel_for(threads, 1, Crowd::run, &crowd));
          } else {
            benches[0]->run(kernel, rows);
          }
        },
        threads > 1 ? kFewestThreaded : kFewestRepeats);
    for (std::size_t i = 0; i < candidates.size(); ++i)
      times.push_back({rows, candidates[i], least[i]});
  }
  return times;
}

double measure_set_up(const KernelTable& kernels) {
  constexpr int kTimes = 100;
  const Unit* unit = unit_of(kernels);
  if (unit == nullptr) return 0;
  double least = std::numeric_limits<double>::infinity();
  for (int turn = 0; turn < 5; ++turn) {
    const auto start = Clock::now();
    for (int i = 0; i < kTimes; ++i) const UnitGuard guard(unit);
    least = std::min(least, seconds_since(start) / kTimes);
  }
  return least;
}

std::vector<int> choose_kernels(const KernelTable& kernels, const NetworkView& network,
                                std::span<const double> times, double set_up_seconds) {
  const auto count = static_cast<std::size_t>(kernels.linear_count);
  const auto layers = static_cast<std::size_t>(network.layers());
  if (times.size() != layers * kRowClasses * count)
    invalid("times", "one per layer, class of rows and kernel", std::to_string(times.size()));
  std::vector<int> choices(layers * kRowClasses);
  for (std::size_t c = 0; c < kRowClasses; ++c) {
    // The best of all, and the best without tiles.
    double any_sum = 0;
    double plain_sum = 0;
    std::vector<int> plain(layers);
    bool tiles = false;
    for (std::size_t i = 0; i < layers; ++i) {
      const std::vector<double> own(times.begin() + (i * kRowClasses + c) * count,
                                    times.begin() + (i * kRowClasses + c + 1) * count);
      std::vector<double> without = own;
      for (std::size_t k = 0; k < count; ++k)
        if (kernels.linears[k].unit != nullptr)
          without[k] = std::numeric_limits<double>::infinity();
      const int best = fastest(
          own, ruled_index(kernels, network, static_cast<std::int64_t>(i), kRowsOfClass[c]));
      plain[i] = fastest(without, 0);
      choices[i * kRowClasses + c] = best;
      tiles = tiles || kernels.linears[best].unit != nullptr;
      any_sum += own[static_cast<std::size_t>(best)];
      plain_sum += own[static_cast<std::size_t>(plain[i])];
    }
    if (tiles && plain_sum <= any_sum + set_up_seconds)
      for (std::size_t i = 0; i < layers; ++i) choices[i * kRowClasses + c] = plain[i];
  }
  return choices;
}

std::vector<BlockTime> measure_blocks(const KernelTable& kernels, std::span<std::byte> buffer) {
  const NetworkView network = unwrap(view_network(buffer));
  NetworkHeader& header = header_of(buffer);
  header.plan_isa = static_cast<std::uint32_t>(rung_of(kernels)) + 1;
  header.block_rows = 0;
  const std::int64_t ruled = PlanView(kernels, network).block_rows();
  std::vector<BlockTime> blocks;
  for (const std::int64_t rows : {32, 64, 96, 128, 160, 192, 288, 384})
    if (rows == ruled || 2 * rows * network.widest() <= kBlockActivations)
      blocks.push_back({rows, 0, false});
  int usual = 0;
  for (std::size_t i = 0; i < blocks.size(); ++i)
    if (blocks[i].block_rows == ruled) usual = static_cast<int>(i);
  if (blocks.size() > 1) {
    const std::int64_t count = kBlockMeasureRows;
    const bool pixels = network.pixels() != PixelKind::kNone;
    const ScratchLease rows(nullptr, count * network.inputs() * (pixels ? 1 : 4));
    if (pixels)
      fill_codes(reinterpret_cast<std::uint8_t*>(rows.get()), count * network.inputs());
    else
      std::fill_n(reinterpret_cast<float*>(rows.get()), count * network.inputs(), 0.5f);
    const ScratchLease logits(nullptr, count * network.outputs() * 4);
    ScratchPool pool;
    const std::vector<double> least =
        least_times(static_cast<int>(blocks.size()), usual, [&](int i) {
          header.block_rows =
              static_cast<std::uint32_t>(blocks[static_cast<std::size_t>(i)].block_rows);
          unwrap(run_network(network,
                             {pixels ? RowType::kPixels : RowType::kFloat32, rows.get(), count},
                             reinterpret_cast<float*>(logits.get()), &pool, /*max_threads=*/1));
        });
    for (std::size_t i = 0; i < blocks.size(); ++i)
      blocks[i].seconds_per_row = least[i] / static_cast<double>(count);
    usual = fastest(least, usual);
  }
  if (!blocks.empty()) blocks[static_cast<std::size_t>(usual)].chosen = true;
  header.block_rows = static_cast<std::uint32_t>(
      blocks.empty() ? ruled : blocks[static_cast<std::size_t>(usual)].block_rows);
  return blocks;
}

void write_plan(const KernelTable& kernels, std::span<const int> choices,
                std::span<const int> threaded, std::int64_t block_rows,
                std::span<std::byte> buffer) {
  const NetworkView network = unwrap(view_network(buffer));
  check_choices(kernels, network, choices);
  if (!threaded.empty()) check_choices(kernels, network, threaded);
  if (block_rows < kBlockRowsStep || block_rows > kMaxBlockRows)
    invalid("block_rows", "32 to 1024", std::to_string(block_rows));
  NetworkHeader& header = header_of(buffer);
  header.plan_isa = static_cast<std::uint32_t>(rung_of(kernels)) + 1;
  header.block_rows = static_cast<std::uint32_t>(block_rows);
  auto* records = reinterpret_cast<LayerRecord*>(buffer.data() + sizeof(NetworkHeader));
  for (std::int64_t i = 0; i < network.layers(); ++i)
    for (int c = 0; c < kRowClasses; ++c) {
      const auto at = static_cast<std::size_t>(i * kRowClasses + c);
      records[i].kernels[c] = static_cast<std::uint8_t>(choices[at] + 1);
      if (c >= kFirstThreadedClass)
        records[i].threaded[c - kFirstThreadedClass] =
            threaded.empty() ? std::uint8_t{0} : static_cast<std::uint8_t>(threaded[at] + 1);
    }
}

}  // namespace fastmnist
