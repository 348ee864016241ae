#include "bindings/model.h"

#include <pybind11/numpy.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings/arrays.h"
#include "core/errors.h"
#include "runtime/executor.h"

namespace fastmnist::bindings {
namespace {

// Taking the GIL back may mean waiting for other threads: not worth it for short calls.
constexpr std::int64_t kProductsWorthReleasing = 2'000'000;

bool usable(const std::optional<ArrayView>& view) {
  return view && view->contiguous() &&
         (view->element() == Element::kFloat32 || view->element() == Element::kUint8);
}

// Rows of x: the object that keeps them alive and their view.
struct Input {
  py::object object;
  ArrayView view;
  std::int64_t rows;
};

std::int64_t count_rows(const ArrayView& view, std::int64_t inputs) {
  std::int64_t features = 1;
  for (int i = 1; i < view.dimensions(); ++i) features *= view.size(i);
  if (view.dimensions() < 2 || features != inputs)
    invalid("x", "[N, ...] with " + std::to_string(inputs) + " values per row",
            "shape " + view.shape_text() +
                (view.count() == inputs ? "; add a batch dimension: x[None]" : ""));
  return view.size(0);
}

Input read_rows(const py::object& x, std::int64_t inputs) {
  if (std::optional<ArrayView> view = ArrayView::of(x); usable(view)) {
    const std::int64_t rows = count_rows(*view, inputs);
    return {x, std::move(*view), rows};
  }
  // Converts (float64, strides, ...) or raises an error that says what was expected.
  py::object converted = py::module_::import("fastmnist._inputs").attr("prepare")(x);
  std::optional<ArrayView> view = ArrayView::of(converted);
  if (!usable(view)) throw py::type_error("x: expected an array of float32 or uint8 on the CPU");
  const std::int64_t rows = count_rows(*view, inputs);
  return {std::move(converted), std::move(*view), rows};
}

[[noreturn]] void throw_bad_out(const py::object& out, const std::optional<ArrayView>& view) {
  std::string got = py::str(py::type::of(out)).cast<std::string>();
  if (py::hasattr(out, "dtype")) got = py::str(out.attr("dtype")).cast<std::string>();
  if (view && !view->contiguous()) got += ", not contiguous";
  throw py::type_error("out: expected a writable, contiguous float32 array or CPU tensor, got " +
                       got);
}

ArrayView read_out(const py::object& out, const Input& x, std::int64_t outputs) {
  std::optional<ArrayView> view = ArrayView::of(out, /*writable=*/true, /*ask=*/false);
  if (!view || view->element() != Element::kFloat32 || !view->contiguous())
    throw_bad_out(out, view);
  if (view->dimensions() != 2 || view->size(0) != x.rows || view->size(1) != outputs)
    invalid("out", "shape [" + std::to_string(x.rows) + ", " + std::to_string(outputs) + "]",
            view->shape_text());
  const auto begin = [](const ArrayView& v) { return reinterpret_cast<std::uintptr_t>(v.data()); };
  const auto bytes = [](const ArrayView& v) {
    return static_cast<std::uintptr_t>(v.count() * (v.element() == Element::kUint8 ? 1 : 4));
  };
  if (begin(*view) < begin(x.view) + bytes(x.view) && begin(x.view) < begin(*view) + bytes(*view))
    invalid("out", "memory of its own", "memory that overlaps x");
  return std::move(*view);
}

std::int64_t products(const NetworkView& view) {
  std::int64_t sum = 0;
  for (std::int64_t i = 0; i < view.layers(); ++i)
    sum += static_cast<std::int64_t>(view.record(i).inputs) * view.record(i).outputs;
  return sum;
}

void run(const NetworkView& view, const Input& x, float* logits, ScratchPool& pool) {
  const RowType type = x.view.element() == Element::kUint8 ? RowType::kPixels : RowType::kFloat32;
  const Rows rows{type, x.view.data(), x.rows};
  if (x.rows > kProductsWorthReleasing / std::max<std::int64_t>(1, products(view))) {
    const py::gil_scoped_release released;
    run_network(view, rows, logits, &pool);
  } else {
    run_network(view, rows, logits, &pool);
  }
}

}  // namespace

Model::Model(const py::buffer& packed) {
  const py::buffer_info info = packed.request();
  if (info.ndim != 1 || info.itemsize != 1 || (info.size > 1 && info.strides[0] != 1))
    invalid("packed", "a one-dimensional, contiguous uint8 array", "another array");
  bytes_ = info.size;
  storage_.reset(static_cast<std::byte*>(::operator new (
      static_cast<std::size_t>(std::max<std::int64_t>(bytes_, 1)), std::align_val_t{64})));
  std::memcpy(storage_.get(), info.ptr, static_cast<std::size_t>(bytes_));
  view_ = view_network(std::span(storage_.get(), static_cast<std::size_t>(bytes_)));
}

const NetworkView& Model::view() const {
  // Python can make an instance without __init__; operator new zeroed it.
  if (!storage_) throw std::runtime_error("this model was never initialized: __init__ did not run");
  return view_;
}

void* Model::operator new(std::size_t size) {
  void* memory = ::operator new(size);
  std::memset(memory, 0, size);
  return memory;
}

py::object Model::call(const py::object& x, const py::object& out) const {
  view();
  // Before any view is taken: from the first view on no Python runs that could free its memory.
  if (!out.is_none() && refuses_writing(out))
    invalid("out", "a plain tensor that does not require grad",
            "one that does, or a negative view");
  const Input input = read_rows(x, view_.inputs());
  check_rows(view_, input.view.element() == Element::kUint8 ? RowType::kPixels : RowType::kFloat32);
  if (out.is_none()) {
    NewArray result = new_array(input.object, input.view.library(), Element::kFloat32,
                                {input.rows, view_.outputs()});
    run(view_, input, static_cast<float*>(result.data), pool_);
    return std::move(result.object);
  }
  const ArrayView result = read_out(out, input, view_.outputs());
  run(view_, input, static_cast<float*>(result.data()), pool_);
  return out;
}

py::object Model::predict(const py::object& x) const {
  if (view().outputs() < 2)
    invalid("predict", "a network with at least two outputs", std::to_string(view_.outputs()));
  const Input input = read_rows(x, view_.inputs());
  NewArray result = new_array(input.object, input.view.library(), Element::kInt64, {input.rows});
  std::vector<float> logits(static_cast<std::size_t>(input.rows * view_.outputs()));
  run(view_, input, logits.data(), pool_);
  arg_max(logits.data(), input.rows, view_.outputs(), static_cast<std::int64_t*>(result.data));
  return std::move(result.object);
}

py::tuple Model::unpack(std::int64_t i) const {
  if (i < 0 || i >= view().layers())
    invalid("layer", "0 to " + std::to_string(view_.layers() - 1), std::to_string(i));
  const PackedDense layer = view_.dense(i);
  py::array_t<std::int8_t> weight({layer.outputs, layer.inputs});
  py::array_t<float> scale(layer.outputs);
  py::array_t<float> bias(layer.outputs);
  unpack_dense(layer, weight.mutable_data(), scale.mutable_data(), bias.mutable_data());
  return py::make_tuple(weight, scale, bias);
}

constexpr const char* kCallDoc = R"(Compute the logits of `x`.

Parameters
----------
x : numpy.ndarray or torch.Tensor
    ``[N, ...]`` with as many values per row as the network has inputs: uint8 pixels (what they
    stand for was fixed by calibration) or floats; float64, float16 and bfloat16 become float32.
out : optional
    A writable, contiguous float32 array or CPU tensor ``[N, classes]`` to write to; no other
    memory is then allocated.

Returns
-------
numpy.ndarray or torch.Tensor
    float32 ``[N, classes]``, of the library that `x` belongs to; `out` where given.

Raises
------
TypeError, ValueError
    For another dtype, shape, device, a missing batch dimension, an `out` that does not fit, or
    uint8 where the model does not know what a pixel stands for.)";

constexpr const char* kPredictDoc = R"(Return the index of each row's largest logit.

Parameters
----------
x : numpy.ndarray or torch.Tensor
    As for calling the model.

Returns
-------
numpy.ndarray or torch.Tensor
    int64 ``[N]``, of the library that `x` belongs to.

Raises
------
TypeError, ValueError
    If the network has a single output; otherwise as calling the model does.)";

void register_model(py::module_& module) {
  py::class_<Model>(module, "Model", "A packed network: rows in, logits out.")
      .def(py::init<const py::buffer&>(), py::arg("packed"))
      .def("__call__", &Model::call, py::arg("x"), py::arg("out") = py::none(), kCallDoc)
      .def("predict", &Model::predict, py::arg("x"), kPredictDoc)
      .def("unpack", &Model::unpack, py::arg("layer"))
      .def_property_readonly("nbytes", &Model::nbytes)
      .def_property_readonly("in_features", &Model::inputs)
      .def_property_readonly("out_features", &Model::outputs)
      .def_property_readonly("takes_pixels", &Model::takes_pixels);
}

}  // namespace fastmnist::bindings
