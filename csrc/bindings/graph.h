// _core.GraphStep and _core.pack_graph: a graph as Python describes it.
#pragma once

#include <pybind11/pybind11.h>

namespace fastmnist::bindings {

void register_graph(pybind11::module_& module);

}  // namespace fastmnist::bindings
