#include "bindings/plans.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "core/errors.h"
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
  const NetworkView network = view_network(copy.bytes());
  check_layer(network, layer);
  if (threads < 1 || threads > kMostThreads)
    invalid("threads", "1 to " + std::to_string(kMostThreads), std::to_string(threads));
  const KernelTable& kernels = active_kernels();
  std::vector<KernelTime> times;
  {
    const py::gil_scoped_release released;
    times = measure_layer(kernels, network, layer, threads);
  }
  py::list rows;
  for (const KernelTime& time : times)
    rows.append(py::make_tuple(time.rows, kernels.linears[time.kernel].name, time.seconds * 1e6));
  return rows;
}

// [layer][class of rows]: names of kernels.
std::vector<std::vector<std::string>> choose(Packed packed, const std::vector<double>& times,
                                             double set_up) {
  const KernelTable& kernels = active_kernels();
  const NetworkView network = view_network(bytes_of(packed));
  const std::vector<int> choices = choose_kernels(kernels, network, times, set_up);
  std::vector<std::vector<std::string>> names(static_cast<std::size_t>(network.layers()));
  for (std::size_t i = 0; i < choices.size(); ++i)
    names[i / kRowClasses].emplace_back(kernels.linears[choices[i]].name);
  return names;
}

py::list block_times(Packed packed) {
  const AlignedCopy copy(bytes_of(packed));
  std::vector<BlockTime> times;
  {
    const py::gil_scoped_release released;
    times = measure_blocks(active_kernels(), copy.bytes());
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
        if (name == kernels.linears[i].name) index = i;
      if (index < 0) invalid("names", "kernels of " + std::string(kernels.name), "'" + name + "'");
      choices.push_back(index);
    }
  return choices;
}

void set_plan(Packed packed, const Names& names, std::int64_t block_rows, const Names& threaded) {
  const KernelTable& kernels = active_kernels();
  write_plan(kernels, indexes_of(kernels, names), indexes_of(kernels, threaded), block_rows,
             bytes_of(packed));
}

// The kernels that layer i could go by: those whose form of weights there is.
std::vector<std::string> layer_kernels(Packed packed, std::int64_t layer) {
  const NetworkView network = view_network(bytes_of(packed));
  check_layer(network, layer);
  const KernelTable& kernels = active_kernels();
  std::vector<std::string> names;
  for (int i = 0; i < kernels.linear_count; ++i)
    if (network.has_form(layer, kernels.linears[i].form))
      names.emplace_back(kernels.linears[i].name);
  return names;
}

// What layer i takes: bytes of the dense form, and of the sparse ones, 0 where there is none.
py::dict layer_forms(Packed packed, std::int64_t layer) {
  const NetworkView network = view_network(bytes_of(packed));
  check_layer(network, layer);
  const LayerRecord& record = network.record(layer);
  const SparseSizes sizes = network.sparse_sizes(layer);
  SparseSizes bitmask = sizes;
  bitmask.picks = false;
  SparseSizes picks = sizes;
  picks.bitmask = false;
  py::dict forms;
  forms["dense"] = packed_dense_bytes(record.inputs, record.outputs);
  forms["bitmask"] = packed_sparse_bytes(bitmask, record.inputs, record.outputs);
  forms["picks"] = packed_sparse_bytes(picks, record.inputs, record.outputs);
  return forms;
}

// What runs: per layer and class of rows the kernel, and the rows of a block.
py::tuple get_plan(Packed packed, bool threaded) {
  const NetworkView network = view_network(bytes_of(packed));
  const PlanView plan(active_kernels(), network);
  py::list layers;
  for (std::int64_t i = 0; i < network.layers(); ++i) {
    py::list names;
    for (const std::int64_t rows : kRowsOfClass) names.append(plan.kernel(i, rows, threaded).name);
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
  module.def("layer_kernels", &layer_kernels, strict("packed"), py::arg("layer"));
  module.def("layer_forms", &layer_forms, strict("packed"), py::arg("layer"));
  module.def("measure_set_up", [] { return measure_set_up(active_kernels()); });
  module.def("measure_blocks", &block_times, strict("packed"));
  module.def("set_plan", &set_plan, strict("packed"), py::arg("names"), py::arg("block_rows"),
             py::arg("threaded") = Names{});
  module.def("get_plan", &get_plan, strict("packed"), py::arg("threaded") = false);
}

}  // namespace fastmnist::bindings
