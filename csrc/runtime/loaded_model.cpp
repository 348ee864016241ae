#include "runtime/loaded_model.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/arithmetic.h"
#include "core/os.h"
#include "core/threads.h"
#include "kernels/tables.h"
#include "pack/layouts.h"
#include "runtime/candidates.h"
#include "runtime/executor.h"
#include "runtime/measurements.h"
#include "runtime/plan_writer.h"
#include "runtime/planner.h"
#include "runtime/predict.h"

namespace fastmnist {
namespace {

using Bytes = std::unique_ptr<ScratchBuffer, void (*)(ScratchBuffer*)>;

// A network laid out and planned, aligned as kernels want it.
struct PackedNetwork {
  Bytes memory{nullptr, &ScratchBuffer::free};
  std::size_t bytes = 0;

  std::span<std::byte> span() { return {memory->data(), bytes}; }
};

Status write_plan_by(const KernelTable& kernels, std::span<std::byte> buffer, PlanBy plan,
                     const std::string& measurements) {
  if (plan == PlanBy::kFixed) return write_ruled_plan(kernels, buffer);
  Result<int> threads = num_threads();
  if (!threads.ok()) return std::move(threads).status();
  Measurements known(measurements);
  if (plan == PlanBy::kMeasured) return plan_network(kernels, buffer, known, *threads);
  Result<bool> planned = plan_from_memory(kernels, buffer, known, *threads);
  if (!planned.ok()) return std::move(planned).status();
  return *planned ? Status() : write_ruled_plan(kernels, buffer);
}

NetworkSpec spec_of(const SavedNetwork& network, const std::vector<float>& table) {
  NetworkSpec spec;
  for (const SavedLayer& layer : network.layers)
    spec.layers.push_back(
        {layer.weight.as<std::int8_t>(), layer.weight_scale.as<float>(),
         layer.has_bias ? layer.bias.as<float>() : nullptr, layer.inputs(), layer.outputs(),
         layer.clamp, make_quantizer(layer.input_scale, layer.input_zero_point),
         layer.input_zeros.empty() ? nullptr : layer.input_zeros.data(), layer.activation});
  spec.input = network.kind;
  if (network.kind == InputKind::kAffine) {
    spec.multiplier = network.multiplier.as<float>();
    spec.offset = network.offset.as<float>();
  }
  if (network.pixels && network.kind != InputKind::kDynamic) spec.pixels = PixelKind::kCodes;
  if (!table.empty()) {
    spec.pixels = PixelKind::kTable;
    spec.pixel_table = table.data();
    spec.channels = static_cast<std::int64_t>(table.size() / 256);
  }
  return spec;
}

Result<PackedNetwork> packed_network(SavedNetwork& network, PlanBy plan,
                                     const std::string& measurements) {
  Result<const KernelTable*> kernels = active_kernels();
  if (!kernels.ok()) return std::move(kernels).status();
  std::vector<float> table;
  if (network.pixels && network.kind == InputKind::kDynamic) table = network.pixels->table();
  NetworkSpec spec = spec_of(network, table);
  const std::vector<WeightForm> readable = readable_forms(**kernels);
  for (const CanonicalLayer& layer : spec.layers)
    spec.forms.push_back(forms_worth_trying(layer, readable));
  Result<std::int64_t> bytes = packed_network_bytes(spec);
  if (!bytes.ok()) return std::move(bytes).status();
  PackedNetwork packed;
  packed.memory.reset(ScratchBuffer::make(*bytes));
  if (packed.memory == nullptr) return Status::out_of_memory();
  packed.bytes = static_cast<std::size_t>(*bytes);
  if (Status bad = pack_network(spec, packed.span()); !bad.ok()) return bad;
  network.layers.clear();
  if (Status bad = write_plan_by(**kernels, packed.span(), plan, measurements); !bad.ok())
    return bad;
  Result<std::size_t> left = drop_unused_forms(**kernels, packed.span());
  if (!left.ok()) return std::move(left).status();
  packed.bytes = *left;
  return packed;
}

// Whether only int8 networks read the input, all of which take its pixels as they are.
bool in_place(const SavedGraph& saved, const SavedInput& input) {
  for (const SavedStep& step : saved.steps)
    if (std::count(step.operands.begin(), step.operands.end(), input.value) > 0 &&
        !(step.network && step.network->pixels == input.pixels))
      return false;
  return true;
}

}  // namespace

Result<std::unique_ptr<LoadedModel>> LoadedModel::make(SavedGraph saved, PlanBy plan,
                                                       const std::string& measurements) {
  auto model = std::make_unique<LoadedModel>();
  for (const SavedInput& input : saved.inputs) {
    const SavedValue& value = saved.values[static_cast<std::size_t>(input.value)];
    model->inputs_.push_back({input.name, value.size(), input.any_shape ? Shape() : value.shape,
                              input.pixels.has_value()});
  }
  for (std::size_t i = 0; i < saved.outputs.size(); ++i) {
    const SavedValue& value = saved.values[static_cast<std::size_t>(saved.outputs[i])];
    const std::string number = saved.outputs.size() > 1 ? std::to_string(i) : "";
    model->outputs_.push_back({saved.names.empty() ? "output" + number : saved.names[i],
                               value.size(), value.shape, false});
  }
  const bool alone =
      saved.steps.size() == 1 && saved.inputs.size() == 1 && saved.steps[0].network &&
      saved.values[static_cast<std::size_t>(saved.inputs[0].value)].shape.size() == 1 &&
      saved.steps[0].operands == std::vector{saved.inputs[0].value} &&
      saved.outputs == std::vector{saved.steps[0].value} &&
      saved.steps[0].network->pixels == saved.inputs[0].pixels;
  Status packed = alone ? model->pack_as_network(*saved.steps[0].network, plan, measurements)
                        : model->pack_as_graph(saved, plan, measurements);
  if (!packed.ok()) return packed;
  return model;
}

Status LoadedModel::keep(std::span<const std::byte> packed) {
  storage_.reset(
      static_cast<std::byte*>(::operator new (packed.size(), std::align_val_t{64}, std::nothrow)));
  if (storage_ == nullptr) return Status::out_of_memory();
  std::copy(packed.begin(), packed.end(), storage_.get());
  bytes_ = packed.size();
  return {};
}

Status LoadedModel::pack_as_network(SavedNetwork& network, PlanBy plan,
                                    const std::string& measurements) {
  Result<PackedNetwork> packed = packed_network(network, plan, measurements);
  if (!packed.ok()) return std::move(packed).status();
  if (Status bad = keep(packed->span()); !bad.ok()) return bad;
  Result<NetworkView> view = view_network(this->packed());
  if (!view.ok()) return std::move(view).status();
  network_ = *std::move(view);
  if (network_.inputs() != inputs_[0].size || network_.outputs() != outputs_[0].size)
    return Status::invalid("model", "values of its layers' sizes", "others");
  return {};
}

Status LoadedModel::pack_as_graph(SavedGraph& saved, PlanBy plan, const std::string& measurements) {
  GraphSpec spec;
  for (const SavedValue& value : saved.values)
    spec.values.push_back({value.size() / value.width(), value.width(),
                           value.is_constant ? value.constant.as<float>() : nullptr});
  std::vector<std::vector<float>> tables;
  tables.reserve(saved.inputs.size());
  for (const SavedInput& input : saved.inputs) {
    GraphSpec::Input made{input.value};
    if (input.pixels && in_place(saved, input)) {
      made.pixels = PixelKind::kCodes;
    } else if (input.pixels) {
      tables.push_back(input.pixels->table());
      made.pixels = PixelKind::kTable;
      made.channels = static_cast<std::int64_t>(input.pixels->channels());
      made.table = tables.back().data();
    }
    spec.inputs.push_back(made);
  }
  std::vector<PackedNetwork> networks(saved.steps.size());
  for (std::size_t i = 0; i < saved.steps.size(); ++i) {
    SavedStep& step = saved.steps[i];
    const std::size_t of = step.numbers_of < 0 ? i : static_cast<std::size_t>(step.numbers_of);
    const SavedStep& numbers = saved.steps[of];
    GraphSpec::Step made{step.kind, step.operands, step.value};
    if (of == i && step.network) {
      Result<PackedNetwork> packed = packed_network(*step.network, plan, measurements);
      if (!packed.ok()) return std::move(packed).status();
      networks[i] = *std::move(packed);
    }
    if (networks[of].memory != nullptr) made.network = networks[of].span();
    if (numbers.has_weight) made.weight = numbers.weight.as<float>();
    if (numbers.has_bias) made.bias = numbers.bias.as<float>();
    made.activation = step.activation;
    made.clamp = step.clamp;
    made.epsilon = step.epsilon;
    made.begin = step.begin;
    spec.steps.push_back(std::move(made));
  }
  spec.outputs = saved.outputs;
  Result<std::vector<std::byte>> packed = pack_graph(spec);
  if (!packed.ok()) return std::move(packed).status();
  if (Status bad = keep(*packed); !bad.ok()) return bad;
  Result<GraphView> view = view_graph(this->packed());
  if (!view.ok()) return std::move(view).status();
  graph_ = *std::move(view);
  for (std::size_t i = 0; i < outputs_.size(); ++i) outputs_[i].indexes = graph_->gives_indexes(i);
  return {};
}

Status LoadedModel::check(std::span<const GraphInput> inputs, std::int64_t rows,
                          std::span<void* const> outputs, std::int64_t values_a_row) const {
  constexpr auto kMostBytes = std::numeric_limits<std::int64_t>::max() / 2;
  if (inputs.size() != inputs_.size() || outputs.size() > outputs_.size())
    return Status::invalid(
        "inputs, outputs",
        std::to_string(inputs_.size()) + " and " + std::to_string(outputs_.size()) + " arrays",
        std::to_string(inputs.size()) + " and " + std::to_string(outputs.size()));
  std::int64_t widest = std::max<std::int64_t>(values_a_row, 1);
  for (const Input& input : inputs_) widest = std::max(widest, input.size);
  if (rows < 0 || rows > kMostBytes / 8 / widest)
    return Status::invalid("rows", "as many as memory can hold", std::to_string(rows));
  struct Range {
    std::uintptr_t begin, end;
  };
  const auto range = [](const void* data, std::int64_t bytes) {
    const auto begin = reinterpret_cast<std::uintptr_t>(data);
    return Range{begin, begin + static_cast<std::uintptr_t>(bytes)};
  };
  const auto written = [&](std::size_t i) {
    const bool wide = outputs_[i].indexes || values_a_row == 1;
    const std::int64_t size = values_a_row == 1 ? 1 : outputs_[i].size;
    return range(outputs[i], rows * size * (wide ? 8 : 4));
  };
  const auto meet = [](const Range& a, const Range& b) {
    return a.begin < b.end && b.begin < a.end;
  };
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i] == nullptr && rows > 0)
      return Status::invalid("outputs", "memory to write to", "NULL");
    for (std::size_t k = 0; k < i; ++k)
      if (meet(written(i), written(k)))
        return Status::invalid("outputs", "memory of their own", "some that overlaps another's");
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].data == nullptr && rows > 0)
      return Status::invalid(inputs_[i].name, "rows", "NULL");
    if (inputs[i].type == RowType::kPixels && !inputs_[i].pixels) return no_pixels(inputs_[i].name);
    const std::int64_t width = inputs[i].type == RowType::kPixels ? 1 : 4;
    const Range read = range(inputs[i].data, rows * inputs_[i].size * width);
    for (std::size_t k = 0; k < outputs.size(); ++k)
      if (meet(read, written(k)))
        return Status::invalid("outputs", "memory of their own", "some that overlaps an input");
  }
  return {};
}

Status LoadedModel::run(std::span<const GraphInput> inputs, std::int64_t rows,
                        std::span<void* const> outputs) const {
  if (outputs.size() != outputs_.size())
    return Status::invalid("outputs", std::to_string(outputs_.size()) + " arrays",
                           std::to_string(outputs.size()));
  std::int64_t widest = 0;
  for (const Output& output : outputs_) widest = std::max(widest, output.size + 1);
  if (Status bad = check(inputs, rows, outputs, widest); !bad.ok()) return bad;
  if (graph_) return run_graph(*graph_, inputs, rows, outputs, &scratch_);
  return run_network(network_, {inputs[0].type, inputs[0].data, rows},
                     static_cast<float*>(outputs[0]), &scratch_);
}

Status LoadedModel::predict(std::span<const GraphInput> inputs, std::int64_t rows,
                            std::int64_t* index) const {
  if (outputs_.size() != 1)
    return Status::invalid("model", "one with one output", std::to_string(outputs_.size()));
  void* const to[] = {index};
  if (outputs_[0].indexes && outputs_[0].size == 1) return run(inputs, rows, to);
  if (outputs_[0].indexes || outputs_[0].shape.size() != 1 || outputs_[0].size < 2)
    return Status::invalid("model", "one that gives a row at least two numbers, in one dimension",
                           text_of(outputs_[0].shape));
  if (Status bad = check(inputs, rows, to, 1); !bad.ok()) return bad;
  if (graph_)
    return predict_graph(*graph_, inputs, rows, outputs_[0].size, index, &scratch_, &logits_);
  return predict_network(network_, {inputs[0].type, inputs[0].data, rows}, index, &scratch_,
                         &logits_);
}

std::string default_measurements() {
  const std::string folder = os::user_cache_folder();
  return folder.empty() ? folder : folder + "/fastmnist/measurements.txt";
}

}  // namespace fastmnist
