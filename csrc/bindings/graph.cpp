#include "bindings/graph.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "bindings/errors.h"
#include "bindings/numpy_arrays.h"
#include "pack/graph.h"
#include "runtime/graph_executor.h"
#include "runtime/scratch.h"

namespace fastmnist::bindings {
namespace {

namespace py = pybind11;

StepKind kind_named(const std::string& name) {
  const auto* const found = std::find(std::begin(kStepKindNames), std::end(kStepKindNames), name);
  if (found == std::end(kStepKindNames)) invalid("kind", "a kind of step", "'" + name + "'");
  return static_cast<StepKind>(found - std::begin(kStepKindNames));
}

struct GraphStep {
  StepKind kind{};
  std::vector<std::int64_t> operands;
  std::int64_t value = -1;
  std::optional<Array<std::uint8_t>> network;
  std::optional<Array<float>> weight;
  std::optional<Array<float>> bias;
  Activation activation{};
  Clamp clamp{};
  float epsilon = 0;
  std::int64_t begin = 0;
};

using Parameters = std::tuple<float, float, float>;

GraphStep make_step(const std::string& kind, std::vector<std::int64_t> operands, std::int64_t value,
                    std::optional<Array<std::uint8_t>> network, std::optional<Array<float>> weight,
                    std::optional<Array<float>> bias, std::uint32_t function,
                    const Parameters& parameters, float lo, float hi, float epsilon,
                    std::int64_t begin) {
  const auto [a, b, c] = parameters;
  return {kind_named(kind),
          std::move(operands),
          value,
          std::move(network),
          std::move(weight),
          std::move(bias),
          {static_cast<Function>(function), {a, b, c}},
          {lo, hi},
          epsilon,
          begin};
}

using ValueTuple = std::tuple<std::int64_t, std::int64_t, std::optional<Array<float>>>;
using InputTuple = std::tuple<std::int64_t, std::string, std::optional<Array<float>>>;

void check_size(const char* what, const std::optional<Array<float>>& array, std::int64_t size) {
  if (array && array->size() != size)
    invalid(what, std::to_string(size) + " values", std::to_string(array->size()));
}

// Tables must have as many numbers as the packer reads of them.
void check_tables(const GraphStep& step, const std::vector<GraphSpec::Value>& values) {
  const auto value = [&](std::int64_t i) -> const GraphSpec::Value& {
    if (i < 0 || i >= static_cast<std::int64_t>(values.size()))
      invalid("operands", "indexes of values", std::to_string(i));
    return values[static_cast<std::size_t>(i)];
  };
  if (step.operands.empty()) invalid("operands", "at least one", "none");
  const GraphSpec::Value& x = value(step.operands[0]);
  const GraphSpec::Value& y = value(step.value);
  std::int64_t weights = x.positions * x.width;
  std::int64_t biases = weights;
  if (step.kind == StepKind::kFloat) {
    weights = x.width * y.width;
    biases = y.width;
  } else if (step.kind == StepKind::kLayerNorm) {
    weights = biases = x.width;
  }
  check_size("weight", step.weight, weights);
  check_size("bias", step.bias, biases);
}

PixelKind pixels_named(const std::string& name) {
  if (name == "none") return PixelKind::kNone;
  if (name == "codes") return PixelKind::kCodes;
  if (name == "table") return PixelKind::kTable;
  invalid("pixels", "none, codes or table", "'" + name + "'");
}

py::array_t<std::uint8_t> pack(const std::vector<ValueTuple>& values,
                               const std::vector<InputTuple>& inputs,
                               const std::vector<GraphStep>& steps,
                               const std::vector<std::int64_t>& outputs) {
  GraphSpec spec;
  for (const auto& [positions, width, constant] : values) {
    constexpr std::int64_t kMost = std::int64_t{1} << 26;
    if (positions < 1 || width < 1 || positions > kMost || width > kMost)
      invalid("values", "1 to 67108864 numbers", std::to_string(positions));
    check_size("constant", constant, positions * width);
    spec.values.push_back({positions, width, constant ? constant->data() : nullptr});
  }
  for (const auto& [value, pixels, table] : inputs) {
    if (table && (table->ndim() != 2 || table->shape(1) != 256))
      invalid("pixel_table", "[channels, 256]", shape_text(*table));
    spec.inputs.push_back({value, pixels_named(pixels), table ? table->shape(0) : 0,
                           table ? table->data() : nullptr});
  }
  for (const GraphStep& step : steps) {
    check_tables(step, spec.values);
    GraphSpec::Step made{step.kind, step.operands, step.value};
    if (step.network)
      made.network = {reinterpret_cast<const std::byte*>(step.network->data()),
                      static_cast<std::size_t>(step.network->size())};
    made.weight = step.weight ? step.weight->data() : nullptr;
    made.bias = step.bias ? step.bias->data() : nullptr;
    made.activation = step.activation;
    made.clamp = step.clamp;
    made.epsilon = step.epsilon;
    made.begin = step.begin;
    spec.steps.push_back(std::move(made));
  }
  spec.outputs = outputs;
  const std::vector<std::byte> packed = unwrap(pack_graph(spec));
  py::array_t<std::uint8_t> bytes(static_cast<py::ssize_t>(packed.size()));
  std::memcpy(bytes.mutable_data(), packed.data(), packed.size());
  return bytes;
}

// Rows of a block, and the scratch memory of each, as a call uses them.
py::tuple memory(const Array<std::uint8_t>& packed) {
  const ScratchLease copy(nullptr, packed.size());
  if (!copy.ok()) throw std::bad_alloc();
  std::memcpy(copy.get(), packed.data(), static_cast<std::size_t>(packed.size()));
  const GraphView graph = unwrap(view_graph({copy.get(), static_cast<std::size_t>(packed.size())}));
  std::vector<std::pair<std::string, std::uint64_t>> places;
  for (const ValueRecord& value : graph.values()) {
    constexpr const char* kPlaces[] = {"input", "output", "constant", "scratch"};
    places.emplace_back(kPlaces[static_cast<int>(value.place)],
                        value.place == Place::kScratch ? value.offset * 4 : value.index);
  }
  return py::make_tuple(graph.header().scratch * 4, graph_block_rows(graph), places);
}

}  // namespace

void register_graph(py::module_& module) {
  const auto optional = [](const char* name) { return py::arg(name).noconvert().none(true); };
  py::class_<GraphStep>(module, "GraphStep", "One step of a graph, as it is packed.")
      .def(py::init(&make_step), py::arg("kind"), py::arg("operands"), py::arg("value"),
           optional("network") = py::none(), optional("weight") = py::none(),
           optional("bias") = py::none(), py::arg("function") = 0,
           py::arg("parameters") = Parameters{0.0f, 0.0f, 0.0f},
           py::arg("lo") = -std::numeric_limits<float>::infinity(),
           py::arg("hi") = std::numeric_limits<float>::infinity(), py::arg("epsilon") = 0.0f,
           py::arg("begin") = 0);
  module.def("pack_graph", &pack, py::arg("values"), py::arg("inputs"), py::arg("steps"),
             py::arg("outputs"));
  module.def("graph_memory", &memory, py::arg("packed"));
}

}  // namespace fastmnist::bindings
