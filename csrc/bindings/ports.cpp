#include "bindings/ports.h"

#include "bindings/errors.h"
#include "bindings/results.h"

namespace fastmnist::bindings {
namespace {

std::vector<std::int64_t> shape_from(const py::handle& sizes, const char* name, std::int64_t size) {
  std::vector<std::int64_t> shape;
  std::int64_t all = 1;
  for (const py::handle& item : py::reinterpret_borrow<py::sequence>(sizes)) {
    shape.push_back(item.cast<std::int64_t>());
    if (shape.back() < 1 || shape.back() > size) invalid(name, "sizes that fit", "others");
    all *= shape.back();
  }
  if (all != size || shape.size() >= Result::kMaxDimensions)
    invalid(name, "sizes of " + std::to_string(size) + " values", std::to_string(all));
  return shape;
}

void check_count(const char* name, const py::sequence& given, std::size_t expected) {
  if (given.size() != expected || expected > kMostPorts)
    invalid(name, std::to_string(expected) + " (at most " + std::to_string(kMostPorts) + ")",
            std::to_string(given.size()));
}

}  // namespace

Ports ports_of(const NetworkView& network) {
  Ports ports;
  ports.inputs.push_back({"x", network.inputs(), {}});
  ports.outputs.push_back({network.outputs(), {network.outputs()}, false});
  return ports;
}

Ports ports_of(const GraphView& graph, const py::object& inputs, const py::object& outputs,
               const py::object& structure) {
  if (!py::isinstance<py::sequence>(inputs) || !py::isinstance<py::sequence>(outputs))
    throw py::type_error("inputs, outputs: expected lists for a packed graph");
  const auto takes = py::reinterpret_borrow<py::sequence>(inputs);
  const auto gives = py::reinterpret_borrow<py::sequence>(outputs);
  check_count("inputs", takes, graph.inputs().size());
  check_count("outputs", gives, graph.outputs().size());
  Ports ports;
  for (std::size_t i = 0; i < takes.size(); ++i) {
    const auto pair = takes[i].cast<std::pair<std::string, py::object>>();
    const std::int64_t size = graph.input(i).size();
    ports.inputs.push_back({pair.first, size, {}});
    if (!pair.second.is_none()) ports.inputs.back().shape = shape_from(pair.second, "inputs", size);
  }
  for (std::size_t i = 0; i < gives.size(); ++i) {
    const std::int64_t size = graph.output(i).size();
    const std::vector<std::int64_t> shape = shape_from(gives[i], "outputs", size);
    ports.outputs.push_back({size, shape, graph.gives_indexes(i)});
  }
  if (structure.is_none() && ports.outputs.size() != 1)
    invalid("structure", "a callable for several outputs", "None");
  ports.structure = structure;
  return ports;
}

}  // namespace fastmnist::bindings
