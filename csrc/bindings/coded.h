// What compressed files are written and read by: files/coded_stream.h for Python.
#pragma once

#include <pybind11/pybind11.h>

namespace fastmnist::bindings {

void register_coded(pybind11::module_& m);

}  // namespace fastmnist::bindings
