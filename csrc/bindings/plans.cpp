#include "bindings/plans.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bindings/errors.h"
#include "kernels/tables.h"
#include "runtime/plan.h"
#include "runtime/planner.h"
#include "runtime/scratch.h"

namespace fastmnist::bindings {
namespace {

namespace py = pybind11;
constexpr int kMostThreads = 256;
using Packed = py::array_t<std::uint8_t, py::array::c_style>;

std::span<std::byte> bytes_of(Packed& packed) {
  return {reinterpret_cast<std::byte*>(packed.mutable_data()),
          static_cast<std::size_t>(packed.size())};
}

// A copy as a model holds it: NumPy aligns to 16 bytes only, and weights that cross cache lines
// would be measured at half their speed.
class AlignedCopy {
 public:
  explicit AlignedCopy(std::span<const std::byte> bytes)
      : size_(bytes.size()), lease_(nullptr, static_cast<std::int64_t>(bytes.size())) {
    std::memcpy(lease_.get(), bytes.data(), size_);
  }
  std::span<std::byte> bytes() const { return {lease_.get(), size_}; }

 private:
  std::size_t size_;
  ScratchLease lease_;
};

void check_layer(const NetworkView& network, std::int64_t layer) {
  if (layer < 0 || layer >= network.layers())
    invalid("layer", "0 to " + std::to_string(network.layers() - 1), std::to_string(layer));
}

py::list layer_times(Packed packed, std::int64_t layer, int threads) {
  const AlignedCopy copy(bytes_of(packed));
  const NetworkView network = unwrap(view_network(copy.bytes()));
  check_layer(network, layer);
  if (threads < 1 || threads > kMostThreads)
    invalid("threads", "1 to " + std::to_string(kMostThreads), std::to_string(threads));
  const KernelTable& kernels = *unwrap(active_kernels());
  std::vector<KernelTime> times;
  {
    const py::gil_scoped_release released;
    times = measure_layer(kernels, network, layer, threads);
  }
  py::list rows;
  for (const KernelTime& time : times)
    rows.append(
        py::make_tuple(time.rows, name_of(kernels.linears[time.kernel]), time.seconds * 1e6));
  return rows;
}

// [layer][class of rows]: names of kernels.
std::vector<std::vector<std::string>> choose(Packed packed, const std::vector<double>& times,
                                             double set_up) {
  const KernelTable& kernels = *unwrap(active_kernels());
  const NetworkView network = unwrap(view_network(bytes_of(packed)));
  const std::vector<int> choices = choose_kernels(kernels, network, times, set_up);
  std::vector<std::vector<std::string>> names(static_cast<std::size_t>(network.layers()));
  for (std::size_t i = 0; i < choices.size(); ++i)
    names[i / kRowClasses].push_back(name_of(kernels.linears[choices[i]]));
  return names;
}

py::list block_times(Packed packed) {
  const AlignedCopy copy(bytes_of(packed));
  std::vector<BlockTime> times;
  {
    const py::gil_scoped_release released;
    times = measure_blocks(*unwrap(active_kernels()), copy.bytes());
  }
  py::list rows;
  for (const BlockTime& time : times)
    rows.append(py::make_tuple(time.block_rows, time.seconds_per_row * 1e6, time.chosen));
  return rows;
}

using Names = std::vector<std::vector<std::string>>;

std::vector<int> indexes_of(const KernelTable& kernels, const Names& names) {
  std::vector<int> choices;
  for (const std::vector<std::string>& layer : names)
    for (const std::string& name : layer) {
      int index = -1;
      for (int i = 0; i < kernels.linear_count; ++i)
        if (name == name_of(kernels.linears[i])) index = i;
      if (index < 0) invalid("names", "kernels of " + std::string(kernels.name), "'" + name + "'");
      choices.push_back(index);
    }
  return choices;
}

void set_plan(Packed packed, const Names& names, std::int64_t block_rows, const Names& threaded) {
  const KernelTable& kernels = *unwrap(active_kernels());
  write_plan(kernels, indexes_of(kernels, names), indexes_of(kernels, threaded), block_rows,
             bytes_of(packed));
}

// The kernels that layer i could go by with so many rows: those whose form of weights there is. In
// the network, unless it is said otherwise what they give and whether there is a scale per row.
std::vector<std::string> layer_kernels(Packed packed, std::int64_t layer, std::int64_t rows,
                                       std::optional<bool> codes_out, std::optional<bool> per_row) {
  const NetworkView network = unwrap(view_network(bytes_of(packed)));
  check_layer(network, layer);
  LinearShape shape = shape_of(network, layer, rows);
  shape.codes_out = codes_out.value_or(shape.codes_out);
  shape.per_row = per_row.value_or(shape.per_row);
  const KernelTable& kernels = *unwrap(active_kernels());
  std::vector<std::string> names;
  for (int i = 0; i < kernels.linear_count; ++i)
    if (network.has_form(layer, kernels.linears[i].form) && can(kernels.linears[i], shape))
      names.push_back(name_of(kernels.linears[i]));
  return names;
}

// Bytes of layer i in each form that it has.
py::dict layer_forms(Packed packed, std::int64_t layer) {
  const NetworkView network = unwrap(view_network(bytes_of(packed)));
  check_layer(network, layer);
  py::dict forms;
  for (int f = 0; f < kWeightForms; ++f)
    if (const std::uint64_t bytes = network.record(layer).forms[f].bytes; bytes != 0)
      forms[name_of(static_cast<WeightForm>(f))] = bytes;
  return forms;
}

// What runs: per layer and class of rows the kernel, and the rows of a block.
py::tuple get_plan(Packed packed, bool threaded) {
  const NetworkView network = unwrap(view_network(bytes_of(packed)));
  const PlanView plan(*unwrap(active_kernels()), network);
  py::list layers;
  for (std::int64_t i = 0; i < network.layers(); ++i) {
    py::list names;
    for (const std::int64_t rows : kRowsOfClass)
      names.append(name_of(plan.kernel(i, shape_of(network, i, rows), threaded)));
    layers.append(names);
  }
  return py::make_tuple(layers, plan.block_rows());
}

}  // namespace

void register_plans(py::module_& module) {
  const auto strict = [](const char* name) { return py::arg(name).noconvert(); };
  module.def("measure_layer", &layer_times, strict("packed"), py::arg("layer"),
             py::arg("threads") = 1);
  module.def("choose_kernels", &choose, strict("packed"), py::arg("times"), py::arg("set_up"));
  module.def("layer_kernels", &layer_kernels, strict("packed"), py::arg("layer"), py::arg("rows"),
             py::arg("codes_out") = py::none(), py::arg("per_row") = py::none());
  module.def("layer_forms", &layer_forms, strict("packed"), py::arg("layer"));
  module.def("measure_set_up", [] { return measure_set_up(*unwrap(active_kernels())); });
  module.def("measure_blocks", &block_times, strict("packed"));
  module.def("set_plan", &set_plan, strict("packed"), py::arg("names"), py::arg("block_rows"),
             py::arg("threaded") = Names{});
  module.def("get_plan", &get_plan, strict("packed"), py::arg("threaded") = false);
}

}  // namespace fastmnist::bindings
