// The planner for Python: measuring, and writing choices into a packed network.
#pragma once

#include <pybind11/pybind11.h>

namespace fastmnist::bindings {

void register_plans(pybind11::module_& module);

}  // namespace fastmnist::bindings
