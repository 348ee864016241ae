#include "bindings/limits.h"

#include <string>

#include "bindings/errors.h"
#include "runtime/limits.h"

namespace fastmnist::bindings {
namespace {

namespace py = pybind11;

py::dict read_limit(const ReadLimit& limit) {
  py::dict result;
  result["level_bytes"] = limit.level_bytes;
  result["buffer_bytes"] = limit.buffer_bytes;
  result["bytes_per_second"] = limit.bytes_per_second;
  return result;
}

py::dict measure(const std::string& isa) {
  Limits limits{};
  {
    const py::gil_scoped_release released;
    limits = unwrap(measure_limits(isa));
  }
  py::dict result;
  result["isa"] = isa;
  result["products_per_second"] = limits.products_per_second;
  result["random_products_per_second"] = limits.random_products_per_second;
  result["float_products_per_second"] = limits.float_products_per_second;
  result["l1"] = read_limit(limits.l1);
  result["l2"] = read_limit(limits.l2);
  result["l3"] = read_limit(limits.l3);
  result["memory"] = read_limit(limits.memory);
  return result;
}

}  // namespace

void register_limits(py::module_& m) { m.def("measure_limits", &measure, py::arg("isa")); }

}  // namespace fastmnist::bindings
