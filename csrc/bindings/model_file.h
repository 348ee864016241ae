// _core.ModelFile and _core.NativeModel: what fm.save wrote, opened natively, and run so.
#pragma once

#include <pybind11/pybind11.h>

namespace fastmnist::bindings {

void register_model_file(pybind11::module_& module);

}  // namespace fastmnist::bindings
