// _core.FloatLayers: float32 layers, each by its kernel, for tests of these kernels.
#pragma once

#include <pybind11/pybind11.h>

namespace fastmnist::bindings {

void register_float_layers(pybind11::module_& m);

}  // namespace fastmnist::bindings
