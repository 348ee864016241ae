// NumPy arrays as pybind11 takes them, and as error messages show them.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>

namespace fastmnist::bindings {

namespace py = pybind11;

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

// "[2, 3]"
inline std::string shape_text(const py::array& array) {
  std::string text = "[";
  for (py::ssize_t i = 0; i < array.ndim(); ++i)
    text += (i > 0 ? ", " : "") + std::to_string(array.shape(i));
  return text + "]";
}

// "float32 [2, 3]"
inline std::string array_text(const py::array& array) {
  return py::str(array.dtype()).cast<std::string>() + " " + shape_text(array);
}

}  // namespace fastmnist::bindings
