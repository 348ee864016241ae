// Kernels on rows of floats for tests: those in use, or the reference.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "bindings/errors.h"
#include "bindings/numpy_arrays.h"
#include "bindings/testing_module.h"
#include "core/activations.h"
#include "core/quantizers.h"
#include "kernels/reference.h"
#include "kernels/tables.h"

namespace fastmnist::bindings {
namespace {

using Floats = Array<float>;
using Pair = void (*)(const float*, const float*, std::int64_t, float*);

const FloatKernels& kernels(bool by_reference) {
  return by_reference ? reference::kFloats : unwrap(active_kernels())->floats;
}

void check_size(const char* name, const py::array& array, py::ssize_t size) {
  if (array.size() != size)
    invalid(name, std::to_string(size) + " values, as many as x has", std::to_string(array.size()));
}

void activate(const Floats& x, int function, float p0, float p1, float p2, Floats& out,
              bool by_reference) {
  check_size("out", out, x.size());
  kernels(by_reference)
      .activate(x.data(), x.size(), unwrap(checked_activation(function, p0, p1, p2)),
                out.mutable_data());
}

bool activate_codes(const Floats& x, int function, float p0, float p1, float p2, float scale,
                    int zero_point, Array<std::uint8_t>& out, bool by_reference) {
  check_size("out", out, x.size());
  return kernels(by_reference)
      .activate_codes(x.data(), x.size(), unwrap(checked_activation(function, p0, p1, p2)),
                      unwrap(checked_quantizer(scale, zero_point)), out.mutable_data());
}

void clamp(const Floats& x, float lo, float hi, Floats& out, bool by_reference) {
  check_size("out", out, x.size());
  kernels(by_reference).clamp(x.data(), x.size(), {lo, hi}, out.mutable_data());
}

Pair pair_named(const FloatKernels& all, const std::string& name) {
  if (name == "add") return all.add;
  if (name == "subtract") return all.subtract;
  if (name == "multiply") return all.multiply;
  if (name == "divide") return all.divide;
  invalid("name", "add, subtract, multiply or divide", "'" + name + "'");
}

void join(const std::string& name, const Floats& a, const Floats& b, Floats& out,
          bool by_reference) {
  check_size("b", b, a.size());
  check_size("out", out, a.size());
  pair_named(kernels(by_reference), name)(a.data(), b.data(), a.size(), out.mutable_data());
}

void slopes(const Floats& x, const Floats& slopes, Floats& out, bool by_reference) {
  check_size("slopes", slopes, x.size());
  check_size("out", out, x.size());
  kernels(by_reference).slopes(x.data(), x.size(), slopes.data(), out.mutable_data());
}

void affine(const Floats& x, const Floats& multiplier, const Floats& offset, Floats& out,
            bool by_reference) {
  check_size("multiplier", multiplier, x.size());
  check_size("offset", offset, x.size());
  check_size("out", out, x.size());
  kernels(by_reference)
      .affine(x.data(), x.size(), multiplier.data(), offset.data(), out.mutable_data());
}

void softmax(const Floats& x, bool log, Floats& out, bool by_reference) {
  check_size("out", out, x.size());
  const FloatKernels& all = kernels(by_reference);
  (log ? all.log_softmax : all.softmax)(x.data(), x.size(), out.mutable_data());
}

void layer_norm(const Floats& x, const std::optional<Floats>& weight,
                const std::optional<Floats>& bias, float epsilon, Floats& out, bool by_reference) {
  if (weight) check_size("weight", *weight, x.size());
  if (bias) check_size("bias", *bias, x.size());
  check_size("out", out, x.size());
  kernels(by_reference)
      .layer_norm(x.data(), x.size(), weight ? weight->data() : nullptr,
                  bias ? bias->data() : nullptr, epsilon, out.mutable_data());
}

}  // namespace

void register_testing_floats(py::module_& m) {
  const auto strict = [](const char* name) { return py::arg(name).noconvert(); };
  const auto reference = py::arg("reference") = false;
  m.def("activate", &activate, strict("x"), py::arg("function"), py::arg("p0"), py::arg("p1"),
        py::arg("p2"), strict("out"), reference);
  m.def("activate_codes", &activate_codes, strict("x"), py::arg("function"), py::arg("p0"),
        py::arg("p1"), py::arg("p2"), py::arg("scale"), py::arg("zero_point"), strict("out"),
        reference);
  m.def("clamp", &clamp, strict("x"), py::arg("lo"), py::arg("hi"), strict("out"), reference);
  m.def("join", &join, py::arg("name"), strict("a"), strict("b"), strict("out"), reference);
  m.def("slopes", &slopes, strict("x"), strict("slopes"), strict("out"), reference);
  m.def("affine", &affine, strict("x"), strict("multiplier"), strict("offset"), strict("out"),
        reference);
  m.def("softmax", &softmax, strict("x"), py::arg("log"), strict("out"), reference);
  m.def("layer_norm", &layer_norm, strict("x"), strict("weight").none(true),
        strict("bias").none(true), py::arg("epsilon"), strict("out"), reference);
}

}  // namespace fastmnist::bindings
