// _core.Model as Python sees it.
#pragma once

#include <pybind11/pybind11.h>

namespace fastmnist::bindings {

// Adds the type to the module.
void register_model(pybind11::module_& module);

}  // namespace fastmnist::bindings
