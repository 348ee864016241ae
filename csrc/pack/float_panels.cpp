#include "pack/float_panels.h"

#include "kernels/sizes.h"

namespace fastmnist {

namespace {

constexpr auto kFloatBytes = static_cast<std::int64_t>(sizeof(float));

// Where the weight of one output and input lies in panels.
std::int64_t place(std::int64_t inputs, std::int64_t output, std::int64_t input) {
  const std::int64_t panel = output / kPanelOutputs;
  return (panel * inputs + input) * kPanelOutputs + output % kPanelOutputs;
}

}  // namespace

std::int64_t float_panel_bytes(std::int64_t inputs, std::int64_t outputs) {
  return panels_of(outputs) * inputs * kPanelOutputs * kFloatBytes;
}

std::int64_t float_bias_bytes(std::int64_t outputs) {
  return panels_of(outputs) * kPanelOutputs * kFloatBytes;
}

void pack_float_panels(const float* weight, std::int64_t inputs, std::int64_t outputs,
                       float* panels) {
  for (std::int64_t n = 0; n < panels_of(outputs) * kPanelOutputs; ++n)
    for (std::int64_t k = 0; k < inputs; ++k)
      panels[place(inputs, n, k)] = n < outputs ? weight[n * inputs + k] : 0.0f;
}

void unpack_float_panels(const float* panels, std::int64_t inputs, std::int64_t outputs,
                         float* weight) {
  for (std::int64_t n = 0; n < outputs; ++n)
    for (std::int64_t k = 0; k < inputs; ++k) weight[n * inputs + k] = panels[place(inputs, n, k)];
}

void pack_float_bias(const float* bias, std::int64_t outputs, float* padded) {
  for (std::int64_t n = 0; n < panels_of(outputs) * kPanelOutputs; ++n)
    padded[n] = bias != nullptr && n < outputs ? bias[n] : 0.0f;
}

}  // namespace fastmnist
