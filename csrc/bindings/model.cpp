#include "bindings/model.h"

#include <pybind11/numpy.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "bindings/arrays.h"
#include "bindings/errors.h"
#include "bindings/results.h"
#include "runtime/executor.h"
#include "runtime/predict.h"

namespace fastmnist::bindings {
namespace {

// Taking the GIL back may mean waiting for other threads: not worth it for short calls.
constexpr std::int64_t kProductsWorthReleasing = 2'000'000;

std::int64_t products_per_row(const NetworkView& view) {
  std::int64_t sum = 0;
  for (std::int64_t i = 0; i < view.layers(); ++i)
    sum += static_cast<std::int64_t>(view.record(i).inputs) * view.record(i).outputs;
  return std::max<std::int64_t>(1, sum);
}

bool usable(const ArrayView& view) {
  return view.contiguous() &&
         (view.element() == Element::kFloat32 || view.element() == Element::kUint8);
}

std::int64_t count_rows(const ArrayView& view, std::int64_t inputs) {
  std::int64_t features = 1;
  for (int i = 1; i < view.dimensions(); ++i) features *= view.size(i);
  if (view.dimensions() >= 2 && features == inputs) return view.size(0);
  const std::string wanted = std::to_string(inputs);
  std::string advice = ": give arrays of that shape";
  if (view.count() == inputs)
    advice = "; add a batch dimension: x[None]";
  else if (view.dimensions() > 2 && view.size(view.dimensions() - 1) == inputs)
    advice = ": make each position a row with x.reshape(-1, " + wanted + ")";
  invalid("x", "[N, ...] with " + wanted + " values per row",
          "shape " + view.shape_text() + advice);
}

bool overlap(const ArrayView& a, const ArrayView& b) {
  const auto begin = [](const ArrayView& v) { return reinterpret_cast<std::uintptr_t>(v.data()); };
  const auto end = [&](const ArrayView& v) {
    return begin(v) + static_cast<std::uintptr_t>(v.bytes());
  };
  return begin(a) < end(b) && begin(b) < end(a);
}

}  // namespace

// Rows of x, and the array that was made of x where it could not be read as it is.
struct Model::Input {
  ArrayView view;
  py::object converted;
  PyObject* object = nullptr;
  std::int64_t rows = 0;

  void read(PyObject* x, std::int64_t inputs) {
    object = x;
    if (!view.read(x) || !usable(view)) {
      // Converts (float64, strides, ...) or raises an error that says what was expected.
      converted = py::module_::import("fastmnist._inputs").attr("prepare")(py::handle(x));
      object = converted.ptr();
      if (!view.read(object) || !usable(view))
        throw py::type_error("x: expected an array of float32 or uint8 on the CPU");
    }
    rows = count_rows(view, inputs);
  }

  // After Python ran, which may have changed the array.
  void read_again() {
    const std::int64_t features = rows > 0 ? view.count() / rows : 0;
    if (!view.read(object, /*ask=*/false) || !usable(view) || view.dimensions() < 1 ||
        view.size(0) != rows || view.count() != rows * features)
      throw std::runtime_error("x: it was changed during the call");
  }

  RowType type() const {
    return view.element() == Element::kUint8 ? RowType::kPixels : RowType::kFloat32;
  }
};

// What the two ways of running have of their own: what the result is.
struct Model::Task {
  bool indices;
  Element element;
  int dimensions;
  std::int64_t outputs;

  std::string shape_text(std::int64_t rows) const {
    return "[" + std::to_string(rows) + (indices ? "]" : ", " + std::to_string(outputs) + "]");
  }

  void check_out(PyObject* out, const ArrayView& view, bool taken, const Input& x) const {
    if (!taken || view.element() != element || !view.contiguous()) {
      const py::handle object(out);
      std::string got = py::str(py::type::of(object)).cast<std::string>();
      if (py::hasattr(object, "dtype")) got = py::str(object.attr("dtype")).cast<std::string>();
      if (taken && !view.contiguous()) got += ", not contiguous";
      throw py::type_error(std::string("out: expected a writable, contiguous ") +
                           (indices ? "int64" : "float32") + " array or CPU tensor, got " + got);
    }
    if (view.dimensions() != dimensions || view.size(0) != x.rows ||
        (!indices && view.size(1) != outputs))
      invalid("out", "shape " + shape_text(x.rows), view.shape_text());
    if (overlap(view, x.view)) invalid("out", "memory of its own", "memory that overlaps x");
  }
};

Model::Model(std::span<const std::byte> packed)
    : bytes_(static_cast<std::int64_t>(packed.size())),
      storage_(static_cast<std::byte*>(
          ::operator new (std::max<std::size_t>(packed.size(), 1), std::align_val_t{64}))) {
  std::copy(packed.begin(), packed.end(), storage_.get());
  view_ = unwrap(view_network(std::span(storage_.get(), packed.size())));
  rows_that_keep_gil_ = kProductsWorthReleasing / products_per_row(view_);
}

PyObject* Model::call(PyObject* x, PyObject* out) const {
  return run({false, Element::kFloat32, 2, view_.outputs()}, x, out);
}

PyObject* Model::predict(PyObject* x, PyObject* out) const {
  if (view_.outputs() < 2)
    invalid("predict", "a network with at least two outputs", std::to_string(view_.outputs()));
  return run({true, Element::kInt64, 1, view_.outputs()}, x, out);
}

PyObject* Model::run(const Task& task, PyObject* x, PyObject* out) const {
  Input input;
  if (out == Py_None) {
    input.read(x, view_.inputs());
    unwrap(check_rows(view_, input.type()));
    Result result(input.object, input.view.library());
    const std::int64_t shape[2] = {input.rows, task.outputs};
    void* data = result.allocate(task.element, {shape, static_cast<std::size_t>(task.dimensions)});
    if (result.ran_python()) input.read_again();
    compute(task, input, data);
    return result.release();
  }
  // Whatever may run Python comes before the view of x.
  if (refuses_writing(out))
    invalid("out", "a plain tensor that does not require grad",
            "one that does, or a negative view");
  ArrayView view;
  const bool plain = is_plain(out);
  bool taken = !plain && view.write(out);
  input.read(x, view_.inputs());
  unwrap(check_rows(view_, input.type()));
  if (plain) taken = view.write(out);
  task.check_out(out, view, taken, input);
  compute(task, input, view.data());
  Py_INCREF(out);
  return out;
}

void Model::compute(const Task& task, const Input& x, void* result) const {
  const Rows rows{x.type(), x.view.data(), x.rows};
  const auto run = [&] {
    if (task.indices)
      return predict_network(view_, rows, static_cast<std::int64_t*>(result), &scratch_, &logits_);
    return run_network(view_, rows, static_cast<float*>(result), &scratch_);
  };
  if (x.rows > rows_that_keep_gil_) {
    const py::gil_scoped_release released;
    unwrap(run());
  } else {
    unwrap(run());
  }
}

PyObject* Model::unpack(std::int64_t i) const {
  if (i < 0 || i >= view_.layers())
    invalid("layer", "0 to " + std::to_string(view_.layers() - 1), std::to_string(i));
  const WeightForm form =
      view_.has_form(i, WeightForm::kDense) ? WeightForm::kDense : WeightForm::kNibbles;
  const Weights layer = view_.weights(i, form);
  py::array_t<std::int8_t> weight({layer.outputs, layer.inputs});
  py::array_t<float> scale(layer.outputs);
  py::array_t<float> bias(layer.outputs);
  fastmnist::unpack(form, layer, weight.mutable_data(), scale.mutable_data(), bias.mutable_data());
  return py::make_tuple(weight, scale, bias).release().ptr();
}

}  // namespace fastmnist::bindings
