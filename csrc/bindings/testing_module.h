// What of _core only tests and benchmarks call: kernels one at a time, and the reference.
#pragma once

#include <pybind11/pybind11.h>

namespace fastmnist::bindings {

// Behind the registration of _core.Layer.
void register_testing(pybind11::module_& m);

// The part that calls kernels on rows of floats.
void register_testing_floats(pybind11::module_& m);

}  // namespace fastmnist::bindings
