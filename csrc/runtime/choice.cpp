#include "runtime/choice.h"

#include <limits>
#include <string>

#include "runtime/candidates.h"

namespace fastmnist {
namespace {

constexpr double kNoise = 0.03;

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

}  // namespace fastmnist
