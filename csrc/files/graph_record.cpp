#include "files/graph_record.h"

#include <algorithm>
#include <cfloat>
#include <iterator>
#include <utility>

#include "files/network_record.h"

namespace fastmnist {
namespace {

constexpr std::size_t kMostRows = 8192;  // of a list
constexpr std::size_t kMostValueDimensions = 7;
constexpr std::int64_t kMostNumbers = std::int64_t{1} << 26;  // of a value

SavedValue value_of(Reading& reading, const std::string& key, JsonValue record) {
  SavedValue value;
  const JsonValue sizes = reading.field(record, "shape", JsonKind::kArray);
  std::int64_t all = 1;
  for (const JsonValue size : sizes) {
    const std::int64_t number = reading.index(size, "shape");
    if (number < 1 || number > kMostNumbers / all || value.shape.size() == kMostValueDimensions) {
      reading.invalid("shape", "1 to 67108864 numbers", text_of(value.shape) + " and more");
      return value;
    }
    all *= number;
    value.shape.push_back(number);
  }
  const std::optional<JsonValue> constant = record.find("constant");
  value.is_constant = constant && constant->is_true();
  if (value.is_constant) value.constant = reading.tensor(key, Dtype::kFloat32, value.shape);
  return value;
}

SavedInput input_of(Reading& reading, JsonValue record) {
  SavedInput input;
  input.name = reading.text(record, "name");
  input.value = reading.index_field(record, "value");
  input.pixels = reading.pixels(record.find("pixels").value_or(JsonValue()));
  input.any_shape = reading.truth(record, "any_shape");
  return input;
}

StepKind kind_of(Reading& reading, JsonValue record) {
  const std::string kind = reading.text(record, "kind");
  const auto* const found = std::find(std::begin(kStepKindNames), std::end(kStepKindNames), kind);
  if (found == std::end(kStepKindNames)) {
    reading.invalid("kind", "a kind of step", "'" + kind + "'");
    return StepKind::kReshape;
  }
  return static_cast<StepKind>(found - std::begin(kStepKindNames));
}

float epsilon_of(Reading& reading, JsonValue record) {
  const std::optional<JsonValue> told = record.find("epsilon");
  if (!told) return 0;
  if (!told->is_number() || !(told->number() >= 0) || !(told->number() <= double{FLT_MAX}))
    reading.invalid("epsilon", "a finite number from 0 on", number_text(told->number()));
  return static_cast<float>(told->number());
}

SavedStep step_of(Reading& reading, const std::string& prefix, JsonValue record,
                  const std::vector<SavedStep>& before) {
  SavedStep step;
  step.kind = kind_of(reading, record);
  step.name = reading.text(record, "name");
  for (const JsonValue operand : reading.field(record, "operands", JsonKind::kArray))
    step.operands.push_back(reading.index(operand, "operands"));
  step.value = reading.index_field(record, "value");
  step.clamp = record.find("clamp") ? reading.clamp(record) : kNoClamp;
  step.activation = reading.function(record);
  step.epsilon = epsilon_of(reading, record);
  if (record.find("begin")) step.begin = reading.index_field(record, "begin");
  if (record.find("numbers_of")) {
    step.numbers_of = reading.index_field(record, "numbers_of");
    const auto twin = static_cast<std::size_t>(step.numbers_of);
    if (reading.ok() && (twin >= before.size() || before[twin].kind != step.kind))
      reading.invalid("numbers_of", "a step before this one", std::to_string(twin));
    if (reading.ok() && before[twin].numbers_of >= 0) step.numbers_of = before[twin].numbers_of;
    return step;
  }
  if (step.kind == StepKind::kInt8)
    step.network =
        read_network(reading, prefix, reading.field(record, "network", JsonKind::kObject));
  step.has_weight = reading.has(prefix + "weight");
  step.has_bias = reading.has(prefix + "bias");
  if (step.has_weight) step.weight = reading.floats(prefix + "weight");
  if (step.has_bias) step.bias = reading.floats(prefix + "bias");
  return step;
}

}  // namespace

SavedGraph read_graph(Reading& reading, const std::string& prefix, JsonValue record) {
  SavedGraph graph;
  std::size_t i = 0;
  for (const JsonValue value : reading.some(record, "values", kMostRows))
    graph.values.push_back(value_of(reading, prefix + "values." + std::to_string(i++), value));
  for (const JsonValue input : reading.some(record, "inputs", kMostRows))
    graph.inputs.push_back(input_of(reading, input));
  i = 0;
  for (const JsonValue step : reading.some(record, "steps", kMostRows)) {
    graph.steps.push_back(
        step_of(reading, prefix + "steps." + std::to_string(i++) + ".", step, graph.steps));
    if (!reading.ok()) return graph;
  }
  for (const JsonValue output : reading.some(record, "outputs", kMostRows))
    graph.outputs.push_back(reading.index(output, "outputs"));
  if (const std::optional<JsonValue> keys = record.find("structure"); keys && keys->is_array())
    for (const JsonValue key : *keys) graph.names.emplace_back(key.text());
  if (!graph.names.empty() && graph.names.size() != graph.outputs.size())
    reading.invalid("structure", std::to_string(graph.outputs.size()) + " keys",
                    std::to_string(graph.names.size()));
  return graph;
}

void check_graph(Reading& reading, const SavedGraph& graph) {
  const auto count = static_cast<std::int64_t>(graph.values.size());
  const auto check_index = [&](std::int64_t value) {
    if (value >= count)
      reading.invalid("values", "indexes below " + std::to_string(count), std::to_string(value));
  };
  const auto check_table = [&](bool is_there, const Array& table, std::int64_t size) {
    if (is_there && table.count() != size)
      reading.invalid("weight, bias", std::to_string(size) + " numbers", text_of(table.shape()));
  };
  for (const SavedInput& input : graph.inputs) {
    check_index(input.value);
    if (!reading.ok()) return;
    const std::int64_t size = graph.values[static_cast<std::size_t>(input.value)].size();
    if (input.pixels && size % static_cast<std::int64_t>(input.pixels->channels()) != 0)
      reading.invalid("pixels", "channels that divide the " + std::to_string(size) + " values",
                      std::to_string(input.pixels->channels()));
  }
  for (const std::int64_t output : graph.outputs) check_index(output);
  for (const SavedStep& step : graph.steps) {
    check_index(step.value);
    for (const std::int64_t operand : step.operands) check_index(operand);
    if (step.operands.empty()) reading.invalid("operands", "some for '" + step.name + "'", "none");
    if (!reading.ok()) return;
    const SavedStep& numbers =
        step.numbers_of < 0 ? step : graph.steps[static_cast<std::size_t>(step.numbers_of)];
    const SavedValue& x = graph.values[static_cast<std::size_t>(step.operands[0])];
    const SavedValue& y = graph.values[static_cast<std::size_t>(step.value)];
    std::int64_t weights = x.size();
    std::int64_t biases = weights;
    if (step.kind == StepKind::kFloat) {
      weights = x.width() * y.width();
      biases = y.width();
      if (!numbers.has_weight || numbers.weight.shape() != Shape{y.width(), x.width()})
        reading.invalid("weight",
                        "float32 " + text_of({y.width(), x.width()}) + " for '" + step.name + "'",
                        numbers.has_weight ? text_of(numbers.weight.shape()) : "none");
    } else if (step.kind == StepKind::kLayerNorm) {
      weights = biases = x.width();
    }
    check_table(numbers.has_weight, numbers.weight, weights);
    check_table(numbers.has_bias, numbers.bias, biases);
  }
}

SavedGraph graph_of(SavedNetwork network) {
  SavedGraph graph;
  const Shape in = {network.layers.front().inputs()};
  const Shape out = {network.layers.back().outputs()};
  graph.values.resize(2);
  graph.values[0].shape = in;
  graph.values[1].shape = out;
  graph.inputs.push_back({"x", 0, network.pixels, true});
  SavedStep step;
  step.kind = StepKind::kInt8;
  step.name = network.layers.front().name;
  step.operands = {0};
  step.value = 1;
  step.clamp = kNoClamp;
  step.network = std::move(network);
  graph.steps.push_back(std::move(step));
  graph.outputs = {1};
  return graph;
}

}  // namespace fastmnist
