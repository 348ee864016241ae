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

bool GraphView::in_buffer(std::uint64_t offset, std::uint64_t bytes) const {
  return offset % kAlignment == 0 && offset <= header_->bytes && bytes <= header_->bytes - offset;
}

bool GraphView::in_scratch(std::uint64_t offset, std::int64_t floats) const {
  return offset <= header_->scratch &&
         static_cast<std::uint64_t>(floats) <= header_->scratch - offset;
}

Status GraphView::find_tables(std::span<const std::byte> buffer) {
  const GraphHeader& header = *header_;
  constexpr std::uint32_t kMost = 1u << 20;
  if (header.inputs < 1 || header.inputs > kMost || header.values > kMost || header.outputs < 1 ||
      header.outputs > kMost || header.steps < 1 || header.steps > kMaxSteps ||
      header.operands > kMost || header.products < 1 || header.sample_bytes < 1 ||
      header.sample_bytes > std::uint64_t{1} << 62 ||
      header.scratch > static_cast<std::uint64_t>(kMostValues) * kMaxSteps)
    return not_packed("counts");
  std::uint64_t at = sizeof(GraphHeader);
  const auto take = [&](std::uint64_t bytes) {
    const std::byte* place = buffer.data() + std::min<std::uint64_t>(at, buffer.size());
    at += bytes;
    return place;
  };
  inputs_ = reinterpret_cast<const InputRecord*>(take(header.inputs * sizeof(InputRecord)));
  values_ = reinterpret_cast<const ValueRecord*>(take(header.values * sizeof(ValueRecord)));
  outputs_ = reinterpret_cast<const std::uint32_t*>(take(header.outputs * 4));
  operands_ = reinterpret_cast<const std::uint32_t*>(take(header.operands * 4));
  at = static_cast<std::uint64_t>(aligned(static_cast<std::int64_t>(at)));
  steps_ = reinterpret_cast<const StepRecord*>(take(header.steps * sizeof(StepRecord)));
  return at > header.bytes ? not_packed("tables") : Status();
}

Status GraphView::check_values() const {
  const auto is_its = [&](const std::uint32_t& index, const ValueRecord& value) {
    return index < header_->values && &values_[index] == &value;
  };
  for (const ValueRecord& value : values()) {
    if (value.positions < 1 || value.width < 1 || value.positions > kMostValues ||
        value.width > kMostValues || value.size() > kMostValues)
      return not_packed("size of a value");
    const std::uint64_t bytes = static_cast<std::uint64_t>(value.size()) * 4;
    const bool good = (value.place == Place::kInput && value.index < header_->inputs &&
                       is_its(inputs_[value.index].value, value)) ||
                      (value.place == Place::kOutput && value.index < header_->outputs &&
                       is_its(outputs_[value.index], value)) ||
                      (value.place == Place::kConstant && in_buffer(value.offset, bytes)) ||
                      (value.place == Place::kScratch && in_scratch(value.offset, value.size()));
    if (!good) return not_packed("place of a value");
  }
  for (const std::uint32_t output : outputs())
    if (output >= header_->values || values_[output].place != Place::kOutput)
      return not_packed("output");
  return {};
}

Status GraphView::check_inputs() const {
  for (const InputRecord& input : inputs()) {
    if (input.value >= header_->values || values_[input.value].place != Place::kInput ||
        input.pixels > PixelKind::kTable)
      return not_packed("input");
    if (input.pixels != PixelKind::kTable) continue;
    const std::int64_t size = values_[input.value].size();
    const std::uint64_t bytes = std::uint64_t{input.channels} * kGraphPixelValues * 4;
    if (input.channels < 1 || input.channels > kMaxInputs || size % input.channels != 0 ||
        !in_buffer(input.table, bytes) || !in_scratch(input.scratch, size))
      return not_packed("pixels");
  }
  return {};
}

// Whether an operand is an input whose pixels are used in place.
bool GraphView::is_codes(std::uint32_t operand) const {
  const ValueRecord& value = values_[operand];
  return value.place == Place::kInput && inputs_[value.index].pixels == PixelKind::kCodes;
}

Status GraphView::check_step(std::uint32_t i, std::span<const std::byte> buffer) {
  const StepRecord& step = steps_[i];
  if (step.kind > kLastStepKind || !check_activation(step.activation).ok() || step.operands < 1 ||
      step.first_operand > header_->operands ||
      step.operands > header_->operands - step.first_operand || step.value >= header_->values ||
      !in_buffer(step.offset, step.bytes))
    return not_packed("step");
  const ValueRecord& y = values_[step.value];
  if (y.place == Place::kInput || y.place == Place::kConstant) return not_packed("a step's value");
  if (step.kind == StepKind::kArgMax && y.place != Place::kOutput) return not_packed("indexes");
  std::vector<ValueSize> sizes;
  for (const std::uint32_t operand : operands(step)) {
    if (operand >= header_->values) return not_packed("operand");
    if (is_codes(operand) && step.kind != StepKind::kInt8)
      return not_packed("pixels that a step cannot read");
    if (values_[operand].place == Place::kConstant && !takes_constants(step.kind))
      return not_packed("a constant that a step cannot read");
    sizes.push_back({values_[operand].positions, values_[operand].width});
  }
  const ValueSize wanted{y.positions, y.width};
  if (size_of(step.kind, sizes, wanted, step.begin) != wanted) return not_packed("sizes");
  if (step.kind != StepKind::kInt8) {
    const std::int64_t bytes = section_bytes(step.kind, sizes[0], y.width, step.bytes != 0);
    return static_cast<std::int64_t>(step.bytes) == bytes ? Status() : not_packed("section");
  }
  Result<NetworkView> network = view_network(
      buffer.subspan(static_cast<std::size_t>(step.offset), static_cast<std::size_t>(step.bytes)));
  if (!network.ok()) return std::move(network).status();
  if (network->inputs() != sizes[0].width || network->outputs() != y.width ||
      (is_codes(operands(step)[0]) && network->pixels() == PixelKind::kNone))
    return not_packed("network");
  networks_[i] = *network;
  return {};
}

// Every value is given once, and indexes are read by nobody.
Status GraphView::check_flow() const {
  std::vector<bool> given(header_->values);
  std::vector<bool> indexes(header_->values);
  for (const StepRecord& step : steps()) {
    if (given[step.value]) return not_packed("a value that is given twice");
    given[step.value] = true;
    if (step.kind == StepKind::kArgMax) indexes[step.value] = true;
  }
  for (const StepRecord& step : steps())
    for (const std::uint32_t operand : operands(step))
      if (indexes[operand]) return not_packed("indexes that are read");
  return {};
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
  if (Status bad = view.find_tables(buffer); !bad.ok()) return bad;
  if (Status bad = view.check_values(); !bad.ok()) return bad;
  if (Status bad = view.check_inputs(); !bad.ok()) return bad;
  view.networks_.resize(header.steps);
  for (std::uint32_t i = 0; i < header.steps; ++i)
    if (Status bad = view.check_step(i, buffer); !bad.ok()) return bad;
  if (Status bad = view.check_flow(); !bad.ok()) return bad;
  return view;
}

}  // namespace fastmnist
