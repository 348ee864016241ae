#include "pack/layouts.h"

#include <algorithm>
#include <cstring>

#include "core/caches.h"
#include "kernels/sizes.h"

namespace fastmnist {
namespace {

// Above that share of weights that are not zero no sparse form is tried.
constexpr std::int64_t kMostValuesPercent = 75;

const WeightLayout* const kLayouts[kWeightForms] = {
    &kDenseLayout,   &kBoundedLayout, &kInt16Layout,   &kNibblesLayout,
    &kBitmaskLayout, &kPicksLayout,   &kWindowsLayout, &kWideWindowsLayout};

}  // namespace

const WeightLayout& layout_of(WeightForm form) { return *kLayouts[static_cast<int>(form)]; }

std::vector<FormSize> forms_worth_trying(const CanonicalLayer& layer,
                                         std::span<const WeightForm> wanted) {
  std::vector<FormSize> forms;
  const std::int64_t all = layer.inputs * layer.outputs;
  const std::int64_t values = all - std::count(layer.weight, layer.weight + all, std::int8_t{0});
  const std::int64_t dense = kDenseLayout.read_bytes(0, layer.inputs, layer.outputs);
  for (const WeightForm form : wanted) {
    const WeightLayout& layout = layout_of(form);
    const std::int64_t most = std::min(dense * layout.most_percent / 100, layout.most_bytes);
    if (form == WeightForm::kDense) continue;
    if (layout.only_far && dense <= caches().l2 / 2) continue;
    if (!can_have(form, layer)) continue;
    if (is_sparse(form)) {
      if (values * 100 > all * kMostValuesPercent) continue;
      // Twice the values is the least that picks take: no need to count where that is too much.
      if (form != WeightForm::kBitmask && 2 * values >= most) continue;
    }
    const FormSize size = size_in(form, layer);
    if (layout.read_bytes(size.count, layer.inputs, layer.outputs) < most) forms.push_back(size);
  }
  return forms;
}

std::int64_t checked_count(WeightForm form, std::span<const std::byte> section, std::int64_t inputs,
                           std::int64_t outputs) {
  std::int64_t count = 0;
  if (form != WeightForm::kDense) {
    if (section.size() < sizeof(SectionHeader)) return -1;
    const auto& header = *reinterpret_cast<const SectionHeader*>(section.data());
    // Every unit takes a byte or more; this keeps what follows far inside int64.
    if (header.count > section.size()) return -1;
    count = static_cast<std::int64_t>(header.count);
  }
  if (layout_of(form).count == nullptr && count != 0) return -1;
  const auto size = static_cast<std::int64_t>(section.size());
  return layout_of(form).bytes(count, inputs, outputs) == size ? count : -1;
}

void unpack(WeightForm form, const Weights& packed, std::int8_t* weight, float* weight_scale,
            float* bias) {
  (form == WeightForm::kNibbles ? unpack_nibbles : unpack_dense)(packed, weight);
  for (std::int64_t n = 0; n < packed.outputs; ++n) {
    const auto& constants = *reinterpret_cast<const PanelEpilogue*>(
        packed.epilogues + n / kPanelOutputs * packed.epilogue_stride);
    weight_scale[n] = constants.scale[n % kPanelOutputs];
    bias[n] = constants.bias[n % kPanelOutputs];
  }
}

Pieces::Pieces(std::int64_t outputs)
    : at_(kEpilogues + panels_of(outputs) * static_cast<std::int64_t>(sizeof(PanelEpilogue))) {}

std::int64_t Pieces::take(std::int64_t bytes) {
  const std::int64_t start = at_;
  at_ += aligned(bytes);
  return start;
}

void write_epilogue(const CanonicalLayer& layer, std::int64_t panel, PanelEpilogue& epilogue) {
  const std::int64_t first = panel * kPanelOutputs;
  for (std::int64_t j = 0; j < kPanelOutputs && first + j < layer.outputs; ++j) {
    const std::int8_t* w = layer.weight + (first + j) * layer.inputs;
    std::int32_t sum = 0;
    for (std::int64_t k = 0; k < layer.inputs; ++k) sum += w[k];
    epilogue.bias[j] = layer.bias != nullptr ? layer.bias[first + j] : 0.0f;
    epilogue.scale[j] = layer.weight_scale[first + j];
    epilogue.weight_sum[j] = sum;
  }
}

void begin_section(const CanonicalLayer& layer, std::int64_t count, std::int64_t bytes,
                   std::byte* section) {
  std::memset(section, 0, static_cast<std::size_t>(bytes));
  reinterpret_cast<SectionHeader*>(section)->count = static_cast<std::uint64_t>(count);
  auto* epilogues = reinterpret_cast<PanelEpilogue*>(section + Pieces::kEpilogues);
  for (std::int64_t p = 0; p < panels_of(layer.outputs); ++p)
    write_epilogue(layer, p, epilogues[p]);
}

Weights begin_view(const std::byte* section, std::int64_t inputs, std::int64_t outputs) {
  Weights view{};
  view.inputs = inputs;
  view.outputs = outputs;
  view.padded_inputs = round_up(inputs, kInputPadding);
  view.epilogues = section + Pieces::kEpilogues;
  view.epilogue_stride = sizeof(PanelEpilogue);
  return view;
}

}  // namespace fastmnist
