#include "bindings/model.h"

#include <pybind11/numpy.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "bindings/arrays.h"
#include "bindings/errors.h"
#include "bindings/results.h"
#include "pack/float_panels.h"
#include "runtime/executor.h"
#include "runtime/graph_executor.h"
#include "runtime/predict.h"

namespace fastmnist::bindings {
namespace {

// Taking the GIL back may mean waiting for other threads: not worth it for short calls.
constexpr std::int64_t kProductsWorthReleasing = 2'000'000;

bool usable(const ArrayView& view) {
  return view.contiguous() &&
         (view.element() == Element::kFloat32 || view.element() == Element::kUint8);
}

// Rows of x, where each has the shape that the port says, or as many values where any shape will
// do. Rows of one dimension may come in several, as images do; not where the last one has all of
// the values, as the model itself would take that for positions.
std::int64_t count_rows(const ArrayView& view, const InputPort& port) {
  const int dimensions = view.dimensions();
  const std::size_t own = port.shape.size();
  std::int64_t features = 1;
  bool same = dimensions == static_cast<int>(own) + 1;
  for (int i = 1; i < dimensions; ++i) {
    features *= view.size(i);
    same = same && view.size(i) == port.shape[static_cast<std::size_t>(i - 1)];
  }
  const bool flattened =
      own == 0 || (own == 1 && dimensions > 2 && view.size(dimensions - 1) != port.size);
  if (dimensions >= 2 && features == port.size && (same || flattened)) return view.size(0);
  std::string wanted = std::to_string(port.size);
  std::string expected = "[N, ...] with " + wanted + " values per row";
  if (own > 1) {
    wanted.clear();
    for (const std::int64_t size : port.shape)
      wanted += (wanted.empty() ? "" : ", ") + std::to_string(size);
    expected = "[N, " + wanted + "]";
  }
  std::string advice = ": give arrays of that shape";
  if (view.count() == port.size)
    advice = "; add a batch dimension: x[None]";
  else if (dimensions > 2 && view.size(dimensions - 1) == port.size)
    advice = ": make each position a row with x.reshape(-1, " + wanted + ")";
  invalid(port.name, expected, "shape " + view.shape_text() + advice);
}

bool overlap(const ArrayView& a, const ArrayView& b) {
  const auto begin = [](const ArrayView& v) { return reinterpret_cast<std::uintptr_t>(v.data()); };
  const auto end = [&](const ArrayView& v) {
    return begin(v) + static_cast<std::uintptr_t>(v.bytes());
  };
  return begin(a) < end(b) && begin(b) < end(a);
}

}  // namespace

// Rows of an input, and the array that was made of it where it could not be read as it is.
struct Model::Input {
  ArrayView view;
  py::object converted;
  PyObject* object = nullptr;
  std::int64_t rows = 0;

  void read(PyObject* x, const InputPort& port) {
    object = x;
    if (!view.read(x) || !usable(view)) {
      // Converts (float64, strides, ...) or raises an error that says what was expected.
      converted =
          py::module_::import("fastmnist._inputs").attr("prepare")(py::handle(x), port.name);
      object = converted.ptr();
      if (!view.read(object) || !usable(view))
        throw py::type_error(port.name + ": expected an array of float32 or uint8 on the CPU");
    }
    rows = count_rows(view, port);
  }

  // After Python ran, which may have changed the array.
  void read_again(const InputPort& port) {
    if (!view.read(object, /*ask=*/false) || !usable(view) || view.dimensions() < 1 ||
        view.size(0) != rows || view.count() != rows * port.size)
      throw std::runtime_error(port.name + ": it was changed during the call");
  }

  RowType type() const {
    return view.element() == Element::kUint8 ? RowType::kPixels : RowType::kFloat32;
  }
};

struct Model::Inputs {
  Few<Input> each;
  std::int64_t rows = 0;

  void read(const Ports& ports, PyObject* const* xs) {
    for (std::size_t i = 0; i < ports.inputs.size(); ++i) each.add().read(xs[i], ports.inputs[i]);
    rows = each[0].rows;
    for (std::size_t i = 1; i < each.size(); ++i)
      if (each[i].rows != rows)
        invalid(ports.inputs[i].name,
                std::to_string(rows) + " rows, as " + ports.inputs[0].name + " has",
                std::to_string(each[i].rows));
    if (each.size() > 1) read_again(ports);  // reading one may have run Python
  }

  void read_again(const Ports& ports) {
    for (std::size_t i = 0; i < each.size(); ++i) each[i].read_again(ports.inputs[i]);
  }
};

// An array to write to: what it must be, and whether Python must run to look at it.
struct Model::Out {
  PyObject* object;
  const OutputPort& port;
  std::string_view name;
  ArrayView view{};
  bool plain = false;
  bool taken = false;

  Out(PyObject* given, const OutputPort& of, std::string_view called)
      : object(given), port(of), name(called) {
    if (refuses_writing(object))
      invalid(std::string(name), "a plain tensor that does not require grad",
              "one that does, or a negative view");
    plain = is_plain(object);
    if (!plain) taken = view.write(object);
  }

  std::string shape_text(std::int64_t rows) const {
    std::string text = "[" + std::to_string(rows);
    for (const std::int64_t size : port.shape) text += ", " + std::to_string(size);
    return text + "]";
  }

  void take(std::int64_t rows) {
    if (plain) taken = view.write(object);
    const Element element = port.indexes ? Element::kInt64 : Element::kFloat32;
    if (!taken || view.element() != element || !view.contiguous()) {
      const py::handle given(object);
      std::string got = py::str(py::type::of(given)).cast<std::string>();
      if (py::hasattr(given, "dtype")) got = py::str(given.attr("dtype")).cast<std::string>();
      if (taken && !view.contiguous()) got += ", not contiguous";
      throw py::type_error(std::string(name) + ": expected a writable, contiguous " +
                           (port.indexes ? "int64" : "float32") + " array or CPU tensor, got " +
                           got);
    }
    bool same =
        view.dimensions() == static_cast<int>(port.shape.size()) + 1 && view.size(0) == rows;
    for (std::size_t i = 0; same && i < port.shape.size(); ++i)
      same = view.size(static_cast<int>(i) + 1) == port.shape[i];
    if (!same) invalid(std::string(name), "shape " + shape_text(rows), view.shape_text());
  }
};

Model::Model(std::span<const std::byte> packed, const py::object& inputs, const py::object& outputs,
             const py::object& structure)
    : bytes_(static_cast<std::int64_t>(packed.size())),
      storage_(static_cast<std::byte*>(
          ::operator new (std::max<std::size_t>(packed.size(), 1), std::align_val_t{64}))) {
  std::copy(packed.begin(), packed.end(), storage_.get());
  const std::span<const std::byte> own(storage_.get(), packed.size());
  std::int64_t products = 1;
  if (is_graph(own)) {
    graph_ = unwrap(view_graph(own));
    ports_ = ports_of(*graph_, inputs, outputs, structure);
    products = static_cast<std::int64_t>(graph_->header().products);
  } else {
    if (!inputs.is_none() || !outputs.is_none() || !structure.is_none())
      throw py::type_error("inputs, outputs, structure: expected none for a packed network");
    network_ = unwrap(view_network(own));
    ports_ = ports_of(network_);
    products = std::max<std::int64_t>(1, network_.products_per_row());
  }
  rows_that_keep_gil_ = kProductsWorthReleasing / products;
  if (ports_.outputs.size() == 1) {
    const OutputPort& output = ports_.outputs[0];
    index_ = {output.size, output.shape, true};
    classes_ = 0;
    if (!output.indexes && !output.shape.empty()) {
      classes_ = output.shape.back();
      index_.shape.pop_back();
      index_.size /= classes_;
    }
  }
}

bool Model::takes_pixels() const {
  if (!graph_) return network_.pixels() != PixelKind::kNone;
  const auto inputs = graph_->inputs();
  return std::all_of(inputs.begin(), inputs.end(),
                     [](const InputRecord& i) { return i.pixels != PixelKind::kNone; });
}

PyObject* Model::call(PyObject* const* xs, PyObject* out) const {
  return run(Task::kOutputs, ports_.outputs.data(), ports_.outputs.size(), xs, out);
}

PyObject* Model::predict(PyObject* const* xs, PyObject* out) const {
  if (ports_.outputs.size() != 1)
    invalid("predict", "a network with one output", std::to_string(ports_.outputs.size()));
  if (ports_.outputs[0].indexes) return call(xs, out);
  if (classes_ < 2)
    invalid("predict", "a network with at least two outputs",
            "1: compare it yourself, as in net(x) > 0.5");
  return run(Task::kIndexes, &index_, 1, xs, out);
}

PyObject* Model::run(Task task, const OutputPort* ports, std::size_t count, PyObject* const* xs,
                     PyObject* out) const {
  Inputs inputs;
  std::array<void*, kMostPorts> data;
  if (out == Py_None) {
    inputs.read(ports_, xs);
    check_pixels(inputs);
    Few<Result> results;
    bool ran_python = false;
    for (std::size_t i = 0; i < count; ++i) {
      Result& result = results.add(inputs.each[0].object, inputs.each[0].view.library());
      std::array<std::int64_t, Result::kMaxDimensions> shape;
      shape[0] = inputs.rows;
      std::copy(ports[i].shape.begin(), ports[i].shape.end(), shape.begin() + 1);
      data[i] = result.allocate(ports[i].indexes ? Element::kInt64 : Element::kFloat32,
                                {shape.data(), ports[i].shape.size() + 1});
      ran_python = ran_python || result.ran_python();
    }
    if (ran_python) inputs.read_again(ports_);
    compute(task, inputs, {data.data(), count});
    if (count == 1 && (task == Task::kIndexes || ports_.structure.is_none()))
      return results[0].release();
    py::tuple all(count);
    for (std::size_t i = 0; i < count; ++i)
      all[i] = py::reinterpret_steal<py::object>(results[i].release());
    return ports_.structure(*all).release().ptr();
  }
  const bool many = task == Task::kOutputs && !ports_.structure.is_none();
  py::object parts = py::reinterpret_borrow<py::object>(out);
  if (many && !PyTuple_CheckExact(out)) parts = ports_.structure.attr("parts")(parts);
  if (many && !PyTuple_CheckExact(parts.ptr()))
    throw py::type_error("out: expected a tuple of arrays, one for each output");
  if (many && PyTuple_GET_SIZE(parts.ptr()) != static_cast<Py_ssize_t>(count))
    invalid("out", std::to_string(count) + " arrays, one for each output",
            std::to_string(PyTuple_GET_SIZE(parts.ptr())));
  // Whatever may run Python comes before the views of the inputs.
  Few<Out> outs;
  for (std::size_t i = 0; i < count; ++i)
    outs.add(many ? PyTuple_GET_ITEM(parts.ptr(), static_cast<Py_ssize_t>(i)) : out, ports[i],
             "out");
  inputs.read(ports_, xs);
  check_pixels(inputs);
  for (std::size_t i = 0; i < count; ++i) {
    outs[i].take(inputs.rows);
    for (std::size_t k = 0; k < inputs.each.size(); ++k)
      if (overlap(outs[i].view, inputs.each[k].view))
        invalid("out", "memory of its own", "memory that overlaps " + ports_.inputs[k].name);
    for (std::size_t k = 0; k < i; ++k)
      if (overlap(outs[i].view, outs[k].view))
        invalid("out", "memory of its own for each output", "memory that overlaps another's");
    data[i] = outs[i].view.data();
  }
  compute(task, inputs, {data.data(), count});
  Py_INCREF(out);
  return out;
}

void Model::check_pixels(Inputs& inputs) const {
  if (!graph_) unwrap(check_rows(network_, inputs.each[0].type()));
  for (std::size_t i = 0; graph_ && i < inputs.each.size(); ++i)
    unwrap(check_graph_input(*graph_, i, inputs.each[i].type(), ports_.inputs[i].name));
}

void Model::compute(Task task, Inputs& inputs, std::span<void* const> results) const {
  std::array<GraphInput, kMostPorts> rows;
  for (std::size_t i = 0; i < inputs.each.size(); ++i)
    rows[i] = {inputs.each[i].type(), inputs.each[i].view.data()};
  const auto run = [&]() -> Status {
    if (graph_ && task == Task::kIndexes)
      return predict_graph(*graph_, {rows.data(), inputs.each.size()}, inputs.rows, classes_,
                           static_cast<std::int64_t*>(results[0]), &scratch_, &logits_);
    if (graph_)
      return run_graph(*graph_, {rows.data(), inputs.each.size()}, inputs.rows, results, &scratch_);
    const Rows all{rows[0].type, rows[0].data, inputs.rows};
    if (task == Task::kIndexes)
      return predict_network(network_, all, static_cast<std::int64_t*>(results[0]), &scratch_,
                             &logits_);
    return run_network(network_, all, static_cast<float*>(results[0]), &scratch_);
  };
  if (inputs.rows > rows_that_keep_gil_) {
    const py::gil_scoped_release released;
    unwrap(run());
  } else {
    unwrap(run());
  }
}

// Layers are counted over all int8 networks of a graph, in the order of its steps.
PyObject* Model::unpack(std::int64_t i) const {
  const auto [network, layer] = layer_at(i);
  if (network == nullptr)
    invalid("layer",
            layers() > 0 ? "0 to " + std::to_string(layers() - 1) : "a network with int8 layers",
            std::to_string(i));
  const WeightForm form =
      network->has_form(layer, WeightForm::kDense) ? WeightForm::kDense : WeightForm::kNibbles;
  const Weights packed = network->weights(layer, form);
  py::array_t<std::int8_t> weight({packed.outputs, packed.inputs});
  py::array_t<float> scale(packed.outputs);
  py::array_t<float> bias(packed.outputs);
  fastmnist::unpack(form, packed, weight.mutable_data(), scale.mutable_data(), bias.mutable_data());
  return py::make_tuple(weight, scale, bias).release().ptr();
}

std::pair<const NetworkView*, std::int64_t> Model::layer_at(std::int64_t i) const {
  if (i < 0) return {nullptr, 0};
  if (!graph_) return {i < network_.layers() ? &network_ : nullptr, i};
  const auto steps = graph_->steps();
  for (std::size_t s = 0; s < steps.size(); ++s) {
    if (steps[s].kind != StepKind::kInt8) continue;
    const NetworkView& network = graph_->network(s);
    if (i < network.layers()) return {&network, i};
    i -= network.layers();
  }
  return {nullptr, 0};
}

std::int64_t Model::layers() const {
  if (!graph_) return network_.layers();
  std::int64_t count = 0;
  const auto steps = graph_->steps();
  for (std::size_t s = 0; s < steps.size(); ++s)
    if (steps[s].kind == StepKind::kInt8) count += graph_->network(s).layers();
  return count;
}

// Of a float layer, by its step: float32 weight [outputs, inputs] and bias [outputs].
PyObject* Model::unpack_floats(std::int64_t step) const {
  const std::span<const StepRecord> steps =
      graph_ ? graph_->steps() : std::span<const StepRecord>();
  if (step < 0 || step >= static_cast<std::int64_t>(steps.size()) ||
      steps[static_cast<std::size_t>(step)].kind != StepKind::kFloat)
    invalid("step", "a float layer", std::to_string(step));
  const StepRecord& record = steps[static_cast<std::size_t>(step)];
  const std::int64_t inputs = graph_->values()[graph_->operands(record)[0]].width;
  const std::int64_t outputs = graph_->values()[record.value].width;
  const float* panels = graph_->floats(record.offset);
  const float* biases = panels + float_panel_bytes(inputs, outputs) / 4;
  py::array_t<float> weight({outputs, inputs});
  py::array_t<float> bias(outputs);
  unpack_float_panels(panels, inputs, outputs, weight.mutable_data());
  std::copy(biases, biases + outputs, bias.mutable_data());
  return py::make_tuple(weight, bias).release().ptr();
}

}  // namespace fastmnist::bindings
