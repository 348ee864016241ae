// _core.ModelFile: what fm.save wrote, opened natively.
#pragma once

#include <pybind11/pybind11.h>

namespace fastmnist::bindings {

void register_model_file(pybind11::module_& module);

}  // namespace fastmnist::bindings
