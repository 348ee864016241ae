#include "bindings/float_layers.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings/errors.h"
#include "bindings/numpy_arrays.h"
#include "kernels/reference.h"
#include "kernels/tables.h"
#include "pack/float_panels.h"

namespace fastmnist::bindings {
namespace {

struct Free {
  void operator()(float* memory) const { ::operator delete (memory, std::align_val_t{64}); }
};
using Floats = std::unique_ptr<float, Free>;

Floats allocate(std::int64_t bytes) {
  return Floats(static_cast<float*>(
      ::operator new (static_cast<std::size_t>(bytes > 0 ? bytes : 1), std::align_val_t{64})));
}

struct Layer {
  std::int64_t inputs;
  std::int64_t outputs;
  Clamp clamp;
  Floats panels;
  Floats bias;
};

void check_layer(const Array<float>& weight, const std::optional<Array<float>>& bias) {
  if (weight.ndim() != 2 || weight.shape(0) < 1 || weight.shape(1) < 1)
    invalid("weight", "[outputs, inputs], at least one of each", shape_text(weight));
  if (bias && bias->size() != weight.shape(0))
    invalid("bias", std::to_string(weight.shape(0)) + " values, one per output", shape_text(*bias));
}

// Rows may lie apart; values of a row must not.
std::int64_t row_stride(const char* name, const py::array_t<float>& array, std::int64_t rows,
                        std::int64_t columns) {
  constexpr auto size = static_cast<py::ssize_t>(sizeof(float));
  const bool fits = array.ndim() == 2 && (rows < 0 || array.shape(0) == rows) &&
                    array.shape(1) == columns && (columns == 1 || array.strides(1) == size) &&
                    array.strides(0) % size == 0;
  if (!fits)
    invalid(name,
            "float32 [" + (rows < 0 ? "rows" : std::to_string(rows)) + ", " +
                std::to_string(columns) + "], the values of a row side by side",
            array_text(array));
  return array.strides(0) / size;
}

// (weight [outputs, inputs], bias [outputs] or None, lowest and highest of the clamp)
using LayerTuple = std::tuple<Array<float>, std::optional<Array<float>>, float, float>;

class FloatLayers {
 public:
  explicit FloatLayers(const std::vector<LayerTuple>& layers) {
    if (layers.empty()) invalid("layers", "at least one", "none");
    for (const auto& [weight, bias, lo, hi] : layers) {
      check_layer(weight, bias);
      Layer layer{weight.shape(1), weight.shape(0), {lo, hi}, nullptr, nullptr};
      if (!layers_.empty() && layers_.back().outputs != layer.inputs)
        invalid("layers", std::to_string(layers_.back().outputs) + " inputs, as the one before has",
                std::to_string(layer.inputs));
      layer.panels = allocate(float_panel_bytes(layer.inputs, layer.outputs));
      layer.bias = allocate(float_bias_bytes(layer.outputs));
      pack_float_panels(weight.data(), layer.inputs, layer.outputs, layer.panels.get());
      pack_float_bias(bias ? bias->data() : nullptr, layer.outputs, layer.bias.get());
      layers_.push_back(std::move(layer));
    }
  }

  void run(const py::array_t<float>& x, py::array_t<float>& out) {
    const std::int64_t x_stride = row_stride("x", x, -1, layers_.front().inputs);
    const std::int64_t rows = x.shape(0);
    const std::int64_t y_stride = row_stride("out", out, rows, layers_.back().outputs);
    const FloatLinearKernel& kernel = unwrap(active_kernels())->float_linear;
    make_room(rows);
    FloatLinearArgs args{};
    args.rows = rows;
    args.y = const_cast<float*>(x.data());
    args.y_stride = x_stride;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      const Layer& layer = layers_[i];
      args.x = args.y;
      args.x_stride = args.y_stride;
      args.panels = layer.panels.get();
      args.bias = layer.bias.get();
      args.inputs = layer.inputs;
      args.outputs = layer.outputs;
      args.lo = layer.clamp.lo;
      args.hi = layer.clamp.hi;
      const bool last = i + 1 == layers_.size();
      args.y = last ? out.mutable_data() : between_[i % 2].get();
      args.y_stride = last ? y_stride : layer.outputs;
      kernel.linear(args);
    }
  }

  Array<float> weight(std::size_t i) const {
    const Layer& layer = layers_.at(i);
    Array<float> weight({layer.outputs, layer.inputs});
    unpack_float_panels(layer.panels.get(), layer.inputs, layer.outputs, weight.mutable_data());
    return weight;
  }

 private:
  void make_room(std::int64_t rows) {
    if (rows <= rows_) return;
    std::int64_t widest = 0;
    for (const Layer& layer : layers_) widest = std::max(widest, layer.outputs);
    for (Floats& room : between_)
      room = allocate(rows * widest * static_cast<std::int64_t>(sizeof(float)));
    rows_ = rows;
  }

  std::vector<Layer> layers_;
  Floats between_[2];
  std::int64_t rows_ = 0;
};

// The same by reference.cpp, of one layer on contiguous rows.
void reference_float_linear(const Array<float>& x, const Array<float>& weight,
                            const std::optional<Array<float>>& bias, float lo, float hi,
                            Array<float>& out) {
  check_layer(weight, bias);
  row_stride("x", x, -1, weight.shape(1));
  row_stride("out", out, x.shape(0), weight.shape(0));
  reference::float_linear({weight.data(), bias ? bias->data() : nullptr, weight.shape(1),
                           weight.shape(0), Clamp{lo, hi}},
                          x.data(), x.shape(0), out.mutable_data());
}

}  // namespace

void register_float_layers(py::module_& m) {
  const auto strict = [](const char* name) { return py::arg(name).noconvert(); };
  py::class_<FloatLayers>(m, "FloatLayers")
      .def(py::init<const std::vector<LayerTuple>&>(), py::arg("layers"))
      .def("run", &FloatLayers::run, strict("x"), strict("out"))
      .def("weight", &FloatLayers::weight, py::arg("layer"));
  m.def("reference_float_linear", &reference_float_linear, strict("x"), strict("weight"),
        py::arg("bias"), py::arg("lo"), py::arg("hi"), strict("out"));
}

}  // namespace fastmnist::bindings
