// fastmnist._core: the torch-free Python module. Thin: arguments are checked for shape and handed
// to libfastmnist; everything a user sees is wrapped in Python, which names arguments in errors.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings/coded.h"
#include "bindings/errors.h"
#include "bindings/float_layers.h"
#include "bindings/graph.h"
#include "bindings/kernel_record.h"
#include "bindings/layer.h"
#include "bindings/limits.h"
#include "bindings/model_file.h"
#include "bindings/model_type.h"
#include "bindings/numpy_arrays.h"
#include "bindings/plans.h"
#include "bindings/testing_module.h"
#include "core/arithmetic.h"
#include "core/cpu.h"
#include "core/threads.h"
#include "kernels/reference.h"
#include "kernels/tables.h"
#include "pack/network.h"

namespace {

namespace py = pybind11;
using namespace fastmnist;  // NOLINT(google-build-using-namespace): this file is its Python face

using bindings::Array;
using bindings::invalid;
using bindings::LayerArrays;
using bindings::shape_text;
using bindings::unwrap;

py::tuple quantizer_of_range(float lo, float hi) {
  if (!std::isfinite(lo) || !std::isfinite(hi))
    invalid("lo, hi", "finite numbers", number_text(lo) + ", " + number_text(hi));
  const Quantizer q = quantizer_from_range(lo, hi);
  return py::make_tuple(q.scale, q.zero_point);
}

py::tuple quantize_weights(const Array<float>& weight, int bits) {
  if (weight.ndim() != 2) invalid("weight", "[outputs, inputs]", shape_text(weight));
  if (bits < 2 || bits > 8) invalid("bits", "2 to 8", std::to_string(bits));
  Array<std::int8_t> codes({weight.shape(0), weight.shape(1)});
  Array<float> scales(weight.shape(0));
  reference::quantize_weights(weight.data(), weight.shape(0), weight.shape(1), bits,
                              codes.mutable_data(), scales.mutable_data());
  return py::make_tuple(codes, scales);
}

LayerArrays make_layer(Array<std::int8_t> weight, Array<float> weight_scale,
                       std::optional<Array<float>> bias, float lo, float hi, float input_scale,
                       int input_zero_point, std::optional<Array<std::uint8_t>> input_zeros,
                       std::uint32_t function, const std::tuple<float, float, float>& parameters) {
  const auto [a, b, c] = parameters;
  return {std::move(weight),
          std::move(weight_scale),
          std::move(bias),
          {lo, hi},
          make_quantizer(input_scale, input_zero_point),
          std::move(input_zeros),
          {static_cast<Function>(function), {a, b, c}}};
}

WeightForm form_named(const std::string& name) {
  std::string known;
  for (int f = 1; f < kWeightForms; ++f) {
    if (name == name_of(static_cast<WeightForm>(f))) return static_cast<WeightForm>(f);
    known += (f > 1 ? ", " : "") + std::string(name_of(static_cast<WeightForm>(f)));
  }
  invalid("forms", "one of " + known, "'" + name + "'");
}

// The forms that are named, or else those that may pay and the active kernels read.
std::vector<std::vector<FormSize>> sparse_forms(
    const std::vector<CanonicalLayer>& layers,
    const std::optional<std::vector<std::vector<std::string>>>& names,
    const std::vector<std::string>& without) {
  if (names && names->size() != layers.size())
    invalid("forms", "one list per layer, " + std::to_string(layers.size()),
            std::to_string(names->size()));
  std::vector<std::vector<FormSize>> forms;
  std::vector<WeightForm> readable =
      names ? std::vector<WeightForm>{} : readable_forms(*unwrap(active_kernels()));
  for (const std::string& name : without) std::erase(readable, form_named(name));
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (!names) {
      forms.push_back(forms_worth_trying(layers[i], readable));
      continue;
    }
    std::set<WeightForm> wanted;
    for (const std::string& name : (*names)[i]) wanted.insert(form_named(name));
    forms.emplace_back();
    for (const WeightForm form : wanted) forms.back().push_back(size_in(form, layers[i]));
  }
  return forms;
}

void check_affine(const NetworkSpec& spec, const std::optional<Array<float>>& multiplier,
                  const std::optional<Array<float>>& offset) {
  const std::int64_t inputs = spec.layers.empty() ? 0 : spec.layers[0].inputs;
  const auto text = [](const std::optional<Array<float>>& values) {
    return values ? shape_text(*values) : std::string("none");
  };
  if (inputs == 0 || !multiplier || !offset || multiplier->size() != inputs ||
      offset->size() != inputs)
    invalid("multiplier, offset", std::to_string(inputs) + " values each, one per input",
            text(multiplier) + " and " + text(offset));
}

py::array_t<std::uint8_t> pack(const std::vector<LayerArrays>& layers, const std::string& input,
                               bool pixel_codes, const std::optional<Array<float>>& multiplier,
                               const std::optional<Array<float>>& offset,
                               const std::optional<Array<float>>& pixel_table,
                               const std::optional<std::vector<std::vector<std::string>>>& forms,
                               const std::vector<std::string>& without) {
  NetworkSpec spec;
  for (const LayerArrays& layer : layers) spec.layers.push_back(layer.view());
  spec.forms = sparse_forms(spec.layers, forms, without);
  if (input == "static") {
    spec.input = InputKind::kStatic;
  } else if (input == "affine") {
    spec.input = InputKind::kAffine;
    check_affine(spec, multiplier, offset);
    spec.multiplier = multiplier->data();
    spec.offset = offset->data();
  } else if (input == "dynamic") {
    spec.input = InputKind::kDynamic;
  } else {
    invalid("input", "'static', 'affine' or 'dynamic'", "'" + input + "'");
  }
  if (pixel_codes && pixel_table) invalid("pixel_codes, pixel_table", "one of them", "both");
  if (pixel_codes) spec.pixels = PixelKind::kCodes;
  if (pixel_table) {
    if (pixel_table->ndim() != 2 || pixel_table->shape(1) != 256)
      invalid("pixel_table", "[channels, 256]", shape_text(*pixel_table));
    spec.pixels = PixelKind::kTable;
    spec.pixel_table = pixel_table->data();
    spec.channels = pixel_table->shape(0);
  }
  py::array_t<std::uint8_t> packed(unwrap(packed_network_bytes(spec)));
  unwrap(pack_network(spec, std::span(reinterpret_cast<std::byte*>(packed.mutable_data()),
                                      static_cast<std::size_t>(packed.size()))));
  return packed;
}

py::dict cpu_info() {
  py::list rungs;
  const KernelTable& kernels = *unwrap(active_kernels());
  const std::string active = kernels.name;
  for (const Rung& rung : ladder()) {
    py::dict row;
    row["isa"] = rung.name;
    row["taken"] = active == rung.name;
    row["why_not"] = rung.refusal;
    rungs.append(row);
  }
  py::dict info;
  info["model"] = cpu_model();
  info["isa"] = active;
  info["threads"] = unwrap(num_threads());
  info["ladder"] = rungs;
  py::list forms;
  for (const WeightForm form : readable_forms(kernels))
    if (is_sparse(form)) forms.append(name_of(form));
  info["sparse_forms"] = forms;
  return info;
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "Native kernels and the whole-network executor of fastmnist.";
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const bindings::InvalidArgument& e) {
      PyErr_SetString(PyExc_ValueError, e.what());
    }
  });

  m.def("cpu_info", &cpu_info);
  m.def(
      "set_isa", [](const std::string& isa) { return unwrap(set_active_kernels(isa)); },
      py::arg("isa"));
  m.def("num_threads", [] { return unwrap(num_threads()); });
  m.def(
      "set_num_threads", [](int count) { unwrap(set_num_threads(count)); }, py::arg("count"));

  const auto strict = [](const char* name) { return py::arg(name).noconvert(); };
  m.def("quantizer_of_range", &quantizer_of_range, py::arg("lo"), py::arg("hi"));
  m.def("quantize_weights", &quantize_weights, strict("weight"), py::arg("bits") = 8);

  py::class_<LayerArrays>(m, "Layer", "One canonical layer: int8 weights with their scales.")
      .def(py::init(&make_layer), strict("weight"), strict("weight_scale"),
           py::arg("bias").noconvert().none(true), py::arg("lo"), py::arg("hi"),
           py::arg("input_scale"), py::arg("input_zero_point"),
           py::arg("input_zeros").noconvert().none(true) = py::none(), py::arg("function") = 0,
           py::arg("parameters") = std::tuple<float, float, float>{0.0f, 0.0f, 0.0f});
  m.def("pack", &pack, py::arg("layers"), py::arg("input"), py::arg("pixel_codes") = false,
        py::arg("multiplier") = py::none(), py::arg("offset") = py::none(),
        py::arg("pixel_table") = py::none(), py::arg("forms") = py::none(),
        py::arg("without") = std::vector<std::string>{});
  bindings::register_kernel_record(m);
  bindings::register_testing(m);
  bindings::register_float_layers(m);
  bindings::register_testing_floats(m);
  bindings::register_plans(m);
  bindings::register_limits(m);
  bindings::register_coded(m);
  bindings::register_model_file(m);
  bindings::register_graph(m);
  bindings::register_model(m);
}
