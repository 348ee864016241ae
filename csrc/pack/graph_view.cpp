#include <algorithm>
#include <cstring>
#include <string>

#include "core/activations.h"
#include "kernels/sizes.h"
#include "pack/graph.h"
#include "pack/graph_steps.h"

namespace fastmnist {
namespace {

Status not_packed(const char* what) {
  return Status::invalid(std::string("packed: not a packed graph of this version (") + what +
                         "); pack it again");
}

}  // namespace

bool is_graph(std::span<const std::byte> buffer) {
  std::uint32_t magic = 0;
  if (buffer.size() < sizeof magic) return false;
  std::memcpy(&magic, buffer.data(), sizeof magic);
  return magic == kGraphMagic;
}

bool GraphView::gives_indexes(std::size_t i) const {
  for (const StepRecord& step : steps())
    if (step.value == outputs_[i]) return step.kind == StepKind::kArgMax;
  return false;
}

Result<GraphView> view_graph(std::span<const std::byte> buffer) {
  if (buffer.size() < sizeof(GraphHeader) ||
      reinterpret_cast<std::uintptr_t>(buffer.data()) % kAlignment != 0)
    return not_packed("too short or misaligned");
  GraphView view;
  view.base_ = buffer.data();
  view.header_ = reinterpret_cast<const GraphHeader*>(buffer.data());
  const GraphHeader& header = *view.header_;
  if (header.magic != kGraphMagic || header.version != kGraphVersion)
    return not_packed("no header");
  if (header.bytes != buffer.size()) return not_packed("cut or extended");
  constexpr std::uint32_t kMost = 1u << 20;
  if (header.inputs < 1 || header.inputs > kMost || header.values > kMost || header.outputs < 1 ||
      header.outputs > kMost || header.steps < 1 || header.steps > kMaxSteps ||
      header.operands > kMost || header.products < 1 ||
      header.scratch > static_cast<std::uint64_t>(kMostValues) * kMaxSteps)
    return not_packed("counts");
  std::uint64_t at = sizeof(GraphHeader);
  const auto take = [&](std::uint64_t bytes) {
    const std::byte* place = buffer.data() + std::min<std::uint64_t>(at, buffer.size());
    at += bytes;
    return place;
  };
  view.inputs_ = reinterpret_cast<const InputRecord*>(take(header.inputs * sizeof(InputRecord)));
  view.values_ = reinterpret_cast<const ValueRecord*>(take(header.values * sizeof(ValueRecord)));
  view.outputs_ = reinterpret_cast<const std::uint32_t*>(take(header.outputs * 4));
  view.operands_ = reinterpret_cast<const std::uint32_t*>(take(header.operands * 4));
  at = static_cast<std::uint64_t>(aligned(static_cast<std::int64_t>(at)));
  view.steps_ = reinterpret_cast<const StepRecord*>(take(header.steps * sizeof(StepRecord)));
  if (at > header.bytes) return not_packed("tables");

  const auto in_buffer = [&](std::uint64_t offset, std::uint64_t bytes) {
    return offset % 64 == 0 && offset <= header.bytes && bytes <= header.bytes - offset;
  };
  const auto in_scratch = [&](std::uint64_t offset, std::int64_t floats) {
    return offset <= header.scratch &&
           static_cast<std::uint64_t>(floats) <= header.scratch - offset;
  };
  for (const ValueRecord& value : view.values()) {
    if (value.positions < 1 || value.width < 1 || value.size() > kMostValues)
      return not_packed("size of a value");
    const std::uint64_t bytes = static_cast<std::uint64_t>(value.size()) * 4;
    const bool good =
        (value.place == Place::kInput && value.index < header.inputs &&
         &view.values_[std::min(view.inputs_[value.index].value, header.values - 1)] == &value) ||
        (value.place == Place::kOutput && value.index < header.outputs &&
         &view.values_[std::min(view.outputs_[value.index], header.values - 1)] == &value) ||
        (value.place == Place::kConstant && in_buffer(value.offset, bytes)) ||
        (value.place == Place::kScratch && in_scratch(value.offset, value.size()));
    if (!good) return not_packed("place of a value");
  }
  for (const InputRecord& input : view.inputs()) {
    if (input.value >= header.values || view.values_[input.value].place != Place::kInput)
      return not_packed("input");
    const std::int64_t size = view.values_[input.value].size();
    if (input.pixels > PixelKind::kTable ||
        (input.pixels == PixelKind::kTable &&
         (input.channels < 1 || input.channels > kMaxInputs || size % input.channels != 0 ||
          !in_buffer(input.table, std::uint64_t{input.channels} * kGraphPixelValues * 4) ||
          !in_scratch(input.scratch, size))))
      return not_packed("pixels");
  }
  for (const std::uint32_t output : view.outputs())
    if (output >= header.values || view.values_[output].place != Place::kOutput)
      return not_packed("output");
  view.networks_.resize(header.steps);
  std::vector<std::uint32_t> written(header.values);
  for (std::uint32_t i = 0; i < header.steps; ++i) {
    const StepRecord& step = view.steps_[i];
    if (step.kind > kLastStepKind || !check_activation(step.activation).ok() || step.operands < 1 ||
        step.first_operand > header.operands ||
        step.operands > header.operands - step.first_operand || step.value >= header.values ||
        !in_buffer(step.offset, step.bytes))
      return not_packed("step");
    const ValueRecord& y = view.values_[step.value];
    if (y.place == Place::kInput || y.place == Place::kConstant || written[step.value]++ != 0)
      return not_packed("a step's value");
    std::vector<ValueSize> sizes;
    for (const std::uint32_t operand : view.operands(step)) {
      if (operand >= header.values) return not_packed("operand");
      const ValueRecord& x = view.values_[operand];
      sizes.push_back({x.positions, x.width});
    }
    const ValueSize wanted{y.positions, y.width};
    if (size_of(step.kind, sizes, wanted, step.begin) != wanted) return not_packed("sizes");
    const bool pixels_in_place =
        view.values_[view.operands(step)[0]].place == Place::kInput &&
        view.inputs_[view.values_[view.operands(step)[0]].index].pixels == PixelKind::kCodes;
    for (const std::uint32_t operand : view.operands(step)) {
      const ValueRecord& x = view.values_[operand];
      if (x.place == Place::kInput && step.kind != StepKind::kInt8 &&
          view.inputs_[x.index].pixels == PixelKind::kCodes)
        return not_packed("pixels that a step cannot read");
    }
    if (step.kind == StepKind::kArgMax && y.place != Place::kOutput) return not_packed("indexes");
    if (step.kind == StepKind::kInt8) {
      Result<NetworkView> network = view_network(buffer.subspan(
          static_cast<std::size_t>(step.offset), static_cast<std::size_t>(step.bytes)));
      if (!network.ok()) return std::move(network).status();
      if (network->inputs() != sizes[0].width || network->outputs() != y.width ||
          (pixels_in_place && network->pixels() == PixelKind::kNone))
        return not_packed("network");
      view.networks_[i] = *network;
    } else if (static_cast<std::int64_t>(step.bytes) !=
               section_bytes(step.kind, sizes[0], y.width, step.bytes != 0)) {
      return not_packed("section");
    }
  }
  std::vector<bool> indexes(header.values);
  for (const StepRecord& step : view.steps())
    if (step.kind == StepKind::kArgMax) indexes[step.value] = true;
  for (const StepRecord& step : view.steps())
    for (const std::uint32_t operand : view.operands(step))
      if (indexes[operand]) return not_packed("indexes that are read");
  return view;
}

}  // namespace fastmnist
