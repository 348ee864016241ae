#include "bindings/plans.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bindings/errors.h"
#include "bindings/kernel_record.h"
#include "core/threads.h"
#include "kernels/tables.h"
#include "runtime/candidates.h"
#include "runtime/choice.h"
#include "runtime/measurements.h"
#include "runtime/plan.h"
#include "runtime/plan_writer.h"
#include "runtime/planner.h"
#include "runtime/scratch.h"

namespace fastmnist::bindings {
namespace {

namespace py = pybind11;
constexpr int kMostThreads = 256;
constexpr double kMicroseconds = 1e6;
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
    if (!lease_.ok()) throw std::bad_alloc();
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

using Records = std::vector<KernelRecord>;

py::list time_rows(const KernelTable& kernels, const std::vector<KernelTime>& times) {
  py::list rows;
  for (const KernelTime& time : times)
    rows.append(py::make_tuple(time.rows, record_of(kernels.linears[time.kernel]),
                               time.seconds * kMicroseconds));
  return rows;
}

py::list measure(Packed packed, std::int64_t layer, int threads) {
  const AlignedCopy copy(bytes_of(packed));
  const NetworkView network = unwrap(view_network(copy.bytes()));
  check_layer(network, layer);
  if (threads < 1 || threads > kMostThreads)
    invalid("threads", "1 to " + std::to_string(kMostThreads), std::to_string(threads));
  const KernelTable& kernels = *unwrap(active_kernels());
  std::vector<KernelTime> times;
  {
    const py::gil_scoped_release released;
    times = unwrap(measure_layer(kernels, network, layer, threads));
  }
  return time_rows(kernels, times);
}

py::list recall(Packed packed, std::int64_t layer, Measurements& known) {
  const AlignedCopy copy(bytes_of(packed));
  const NetworkView network = unwrap(view_network(copy.bytes()));
  check_layer(network, layer);
  const KernelTable& kernels = *unwrap(active_kernels());
  std::vector<KernelTime> times;
  {
    const py::gil_scoped_release released;
    times = unwrap(layer_times(kernels, network, layer, known));
  }
  return time_rows(kernels, times);
}

void plan(Packed packed, Measurements& known) {
  const std::span<std::byte> bytes = bytes_of(packed);
  const AlignedCopy copy(bytes);
  unwrap(view_network(copy.bytes()));
  {
    const py::gil_scoped_release released;
    unwrap(plan_network(*unwrap(active_kernels()), copy.bytes(), known, unwrap(num_threads())));
  }
  std::memcpy(bytes.data(), copy.bytes().data(), bytes.size());
}

// [layer][class of rows].
std::vector<Records> choose(Packed packed, const std::vector<double>& times, double set_up) {
  const KernelTable& kernels = *unwrap(active_kernels());
  const NetworkView network = unwrap(view_network(bytes_of(packed)));
  const std::vector<int> choices = unwrap(choose_kernels(kernels, network, times, set_up));
  std::vector<Records> records(static_cast<std::size_t>(network.layers()));
  for (std::size_t i = 0; i < choices.size(); ++i)
    records[i / kRowClasses].push_back(record_of(kernels.linears[choices[i]]));
  return records;
}

std::vector<int> indexes_of(const KernelTable& kernels, const std::vector<Records>& records) {
  std::vector<int> choices;
  for (const Records& layer : records)
    for (const KernelRecord& record : layer) {
      int index = -1;
      for (int i = 0; i < kernels.linear_count; ++i)
        if (record.name == name_of(kernels.linears[i])) index = i;
      if (index < 0)
        invalid("kernels", "kernels of " + std::string(kernels.name), "'" + record.name + "'");
      choices.push_back(index);
    }
  return choices;
}

void set_plan(Packed packed, const std::vector<Records>& one, std::int64_t block_rows,
              const std::vector<Records>& threaded) {
  const KernelTable& kernels = *unwrap(active_kernels());
  unwrap(write_plan(kernels, indexes_of(kernels, one), indexes_of(kernels, threaded), block_rows,
                    bytes_of(packed)));
}

// The kernels that layer i could go by with so many rows: those whose form of weights there is. In
// the network, unless it is said otherwise what they give and whether there is a scale per row.
Records layer_kernels(Packed packed, std::int64_t layer, std::int64_t rows,
                      std::optional<bool> codes_out, std::optional<bool> per_row) {
  const NetworkView network = unwrap(view_network(bytes_of(packed)));
  check_layer(network, layer);
  LinearShape shape = shape_of(network, layer, rows);
  shape.codes_out = codes_out.value_or(shape.codes_out);
  shape.per_row = per_row.value_or(shape.per_row);
  const KernelTable& kernels = *unwrap(active_kernels());
  Records records;
  for (const int i : candidates_of(kernels, network, layer, shape))
    records.push_back(record_of(kernels.linears[i]));
  return records;
}

// Rows of codes as layer i is measured with.
py::array_t<std::uint8_t> bench_codes(Packed packed, std::int64_t layer, std::int64_t rows) {
  const NetworkView network = unwrap(view_network(bytes_of(packed)));
  check_layer(network, layer);
  const std::int64_t inputs = network.record(layer).inputs;
  py::array_t<std::uint8_t> codes(
      {static_cast<py::ssize_t>(rows), static_cast<py::ssize_t>(inputs)});
  fill_codes(network, layer, codes.mutable_data(), rows, inputs);
  return codes;
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
    py::list records;
    for (const std::int64_t rows : kRowsOfClass)
      records.append(record_of(plan.kernel(i, shape_of(network, i, rows), threaded)));
    layers.append(records);
  }
  return py::make_tuple(layers, plan.block_rows());
}

}  // namespace

void register_plans(py::module_& module) {
  const auto strict = [](const char* name) { return py::arg(name).noconvert(); };
  py::class_<Measurements>(module, "Measurements",
                           "Times by machine and key, kept for the process and in a file.")
      .def(py::init<>())
      .def("keep_in", &Measurements::keep_in, py::arg("path"))
      .def("forget", &Measurements::forget)
      .def_property_readonly("added", &Measurements::added);
  module.def("machine_name", [] { return machine_name(*unwrap(active_kernels())); });
  module.def("measure_layer", &measure, strict("packed"), py::arg("layer"), py::arg("threads") = 1);
  module.def("layer_times", &recall, strict("packed"), py::arg("layer"), py::arg("known"));
  module.def("plan_network", &plan, strict("packed"), py::arg("known"));
  module.def(
      "plan_by_rule",
      [](Packed packed) { unwrap(write_ruled_plan(*unwrap(active_kernels()), bytes_of(packed))); },
      strict("packed"));
  module.def(
      "drop_unused_forms",
      [](Packed packed) {
        return unwrap(drop_unused_forms(*unwrap(active_kernels()), bytes_of(packed)));
      },
      strict("packed"));
  module.def("choose_kernels", &choose, strict("packed"), py::arg("times"), py::arg("set_up"));
  module.def("linear_kernels", [] {
    Records records;
    for (const LinearKernel& kernel : all_of(*unwrap(active_kernels())))
      records.push_back(record_of(kernel));
    return records;
  });
  module.def("layer_kernels", &layer_kernels, strict("packed"), py::arg("layer"), py::arg("rows"),
             py::arg("codes_out") = py::none(), py::arg("per_row") = py::none());
  module.def("bench_codes", &bench_codes, strict("packed"), py::arg("layer"), py::arg("rows"));
  module.def("layer_forms", &layer_forms, strict("packed"), py::arg("layer"));
  module.def("set_plan", &set_plan, strict("packed"), py::arg("kernels"), py::arg("block_rows"),
             py::arg("threaded") = std::vector<Records>{});
  module.def("get_plan", &get_plan, strict("packed"), py::arg("threaded") = false);
}

}  // namespace fastmnist::bindings
