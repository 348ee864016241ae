// _core.measure_limits.
#pragma once

#include <pybind11/pybind11.h>

namespace fastmnist::bindings {

void register_limits(pybind11::module_& m);

}  // namespace fastmnist::bindings
