#include "runtime/choice.h"

#include <algorithm>
#include <limits>
#include <string>

#include "runtime/candidates.h"

namespace fastmnist {
namespace {

constexpr double kNoise = 0.03;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
// How much slower nibbles alone may be: they take a third of what nibbles and dense weights do.
constexpr double kForHalfTheMemory = 1.05;

// Whether kernels that read nibbles are as good as all, whatever the number of rows. `times` are a
// layer's, [class][kernel].
bool nibbles_serve(const KernelTable& kernels, std::span<const double> times) {
  const auto count = static_cast<std::size_t>(kernels.linear_count);
  for (std::size_t at = 0; at < times.size(); at += count) {
    double any = kInfinity;
    double nibbles = kInfinity;
    for (std::size_t k = 0; k < count; ++k) {
      any = std::min(any, times[at + k]);
      if (kernels.linears[k].form == WeightForm::kNibbles)
        nibbles = std::min(nibbles, times[at + k]);
    }
    if (!(nibbles <= kForHalfTheMemory * any) || any == kInfinity) return false;
  }
  return true;
}

// The times as they count: only those of nibbles where these serve.
std::vector<double> counted_times(const KernelTable& kernels, const NetworkView& network,
                                  std::span<const double> times) {
  std::vector<double> counted(times.begin(), times.end());
  const std::size_t own = kRowClasses * static_cast<std::size_t>(kernels.linear_count);
  for (std::int64_t i = 0; i < network.layers(); ++i) {
    const std::span<double> layer(counted.data() + static_cast<std::size_t>(i) * own, own);
    if (!network.has_form(i, WeightForm::kNibbles) || !nibbles_serve(kernels, layer)) continue;
    for (std::size_t t = 0; t < own; ++t)
      if (kernels.linears[t % static_cast<std::size_t>(kernels.linear_count)].form !=
          WeightForm::kNibbles)
        layer[t] = kInfinity;
  }
  return counted;
}

}  // namespace

int fastest(const std::vector<double>& times, int usual) {
  int best = usual;
  for (int i = 0; i < static_cast<int>(times.size()); ++i)
    if (times[static_cast<std::size_t>(i)] < times[static_cast<std::size_t>(best)]) best = i;
  const double gain =
      1.0 - times[static_cast<std::size_t>(best)] / times[static_cast<std::size_t>(usual)];
  return gain > kNoise ? best : usual;
}

Result<std::vector<int>> choose_kernels(const KernelTable& kernels, const NetworkView& network,
                                        std::span<const double> times, double set_up_seconds) {
  const auto count = static_cast<std::size_t>(kernels.linear_count);
  const auto layers = static_cast<std::size_t>(network.layers());
  if (times.size() != layers * kRowClasses * count)
    return Status::invalid("times", "one per layer, class of rows and kernel",
                           std::to_string(times.size()));
  const std::vector<double> counted = counted_times(kernels, network, times);
  std::vector<int> choices(layers * kRowClasses);
  for (std::size_t c = 0; c < kRowClasses; ++c) {
    // The best of all, and the best without tiles.
    double any_sum = 0;
    double plain_sum = 0;
    std::vector<int> plain(layers);
    bool tiles = false;
    for (std::size_t i = 0; i < layers; ++i) {
      const std::vector<double> own(counted.begin() + (i * kRowClasses + c) * count,
                                    counted.begin() + (i * kRowClasses + c + 1) * count);
      std::vector<double> without = own;
      for (std::size_t k = 0; k < count; ++k)
        if (kernels.linears[k].unit != nullptr) without[k] = kInfinity;
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

}  // namespace fastmnist
