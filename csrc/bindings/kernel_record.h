// _core.Kernel: what a linear kernel is, as Python sees it.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "core/types.h"
#include "kernels/tables.h"

namespace fastmnist::bindings {

struct KernelRecord {
  std::string isa;
  std::string loop;
  int rows;
  int panels;
  std::string form;
  bool is_sparse;
  std::string name;  // all of it, for people; and no two kernels have the same
};

inline KernelRecord record_of(const LinearKernel& kernel) {
  return {kernel.isa,         kernel.loop,          kernel.tile_rows,
          kernel.tile_panels, name_of(kernel.form), is_sparse(kernel.form),
          name_of(kernel)};
}

inline void register_kernel_record(pybind11::module_& module) {
  namespace py = pybind11;
  const auto state = [](const KernelRecord& k) {
    return py::make_tuple(k.isa, k.loop, k.rows, k.panels, k.form, k.is_sparse, k.name);
  };
  const auto from_state = [](const py::tuple& t) {
    return KernelRecord{t[0].cast<std::string>(), t[1].cast<std::string>(), t[2].cast<int>(),
                        t[3].cast<int>(),         t[4].cast<std::string>(), t[5].cast<bool>(),
                        t[6].cast<std::string>()};
  };
  py::class_<KernelRecord>(module, "Kernel", "One way to compute a layer.")
      .def_readonly("isa", &KernelRecord::isa)
      .def_readonly("loop", &KernelRecord::loop)
      .def_readonly("rows", &KernelRecord::rows)
      .def_readonly("panels", &KernelRecord::panels)
      .def_readonly("form", &KernelRecord::form)
      .def_readonly("is_sparse", &KernelRecord::is_sparse)
      .def_readonly("name", &KernelRecord::name)
      .def(
          "__eq__", [](const KernelRecord& a, const KernelRecord& b) { return a.name == b.name; },
          py::is_operator())
      .def("__hash__", [](const KernelRecord& k) { return py::hash(py::str(k.name)); })
      .def("__repr__", [](const KernelRecord& k) { return "<Kernel " + k.name + ">"; })
      .def("__str__", [](const KernelRecord& k) { return k.name; })
      .def(py::pickle(state, from_state));
}

}  // namespace fastmnist::bindings
