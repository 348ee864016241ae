// fastmnist._core: the torch-free Python module. Thin: arguments are checked for shape and handed
// to libfastmnist; everything a user sees is wrapped in Python, which names arguments in errors.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cfloat>
#include <cmath>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "bindings/limits.h"
#include "bindings/model_type.h"
#include "bindings/plans.h"
#include "core/arithmetic.h"
#include "core/cpu.h"
#include "core/errors.h"
#include "core/threads.h"
#include "kernels/reference.h"
#include "kernels/tables.h"
#include "pack/network.h"
#include "runtime/linear.h"
#include "runtime/plan.h"

namespace {

namespace py = pybind11;
using namespace fastmnist;  // NOLINT(google-build-using-namespace): this file is its Python face

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

void expect(bool condition, const char* argument, const char* expected) {
  if (!condition) invalid(argument, expected, "something else");
}

Quantizer checked_quantizer(float scale, int zero_point) {
  if (!(std::isfinite(scale) && scale >= FLT_MIN))
    invalid("scale", "a finite, normal, positive number", std::to_string(scale));
  if (zero_point < 0 || zero_point > 255)
    invalid("zero_point", "0 to 255", std::to_string(zero_point));
  return make_quantizer(scale, zero_point);
}

std::vector<Quantizer> row_quantizers(const Array<float>& scale,
                                      const Array<std::int32_t>& zero_point) {
  expect(scale.ndim() == 1 && zero_point.ndim() == 1 && scale.size() == zero_point.size(),
         "row_scale", "one scale and zero point per row");
  std::vector<Quantizer> rows;
  for (py::ssize_t m = 0; m < scale.size(); ++m)
    rows.push_back(checked_quantizer(scale.data()[m], zero_point.data()[m]));
  return rows;
}

bool quantize(const Array<float>& x, float scale, int zero_point, Array<std::uint8_t>& out) {
  expect(x.size() == out.size(), "out", "as many codes as x has values");
  return active_kernels().quantize(x.data(), x.size(), checked_quantizer(scale, zero_point),
                                   out.mutable_data());
}

bool quantize_affine(const Array<float>& x, const Array<float>& multiplier,
                     const Array<float>& offset, Array<std::uint8_t>& out) {
  expect(x.size() == out.size() && x.size() == multiplier.size() && x.size() == offset.size(),
         "out, multiplier, offset", "as many values as x has");
  return active_kernels().quantize_affine(x.data(), x.size(), multiplier.data(), offset.data(),
                                          out.mutable_data());
}

void dequantize(const Array<std::uint8_t>& q, float scale, int zero_point, Array<float>& out) {
  expect(q.size() == out.size(), "out", "as many values as q has codes");
  active_kernels().dequantize(q.data(), q.size(), checked_quantizer(scale, zero_point),
                              out.mutable_data());
}

py::tuple row_range(const Array<float>& x) {
  const RowRange range = active_kernels().row_range(x.data(), x.size());
  return py::make_tuple(range.lo, range.hi, range.finite);
}

py::tuple quantizer_of_range(float lo, float hi) {
  expect(std::isfinite(lo) && std::isfinite(hi), "lo, hi", "finite numbers");
  const Quantizer q = quantizer_from_range(lo, hi);
  return py::make_tuple(q.scale, q.zero_point);
}

py::tuple quantize_weights(const Array<float>& weight) {
  expect(weight.ndim() == 2, "weight", "[outputs, inputs]");
  Array<std::int8_t> codes({weight.shape(0), weight.shape(1)});
  Array<float> scales(weight.shape(0));
  reference::quantize_weights(weight.data(), weight.shape(0), weight.shape(1), codes.mutable_data(),
                              scales.mutable_data());
  return py::make_tuple(codes, scales);
}

// ---- layers ---------------------------------------------------------------------------------

struct LayerArrays {
  Array<std::int8_t> weight;
  Array<float> weight_scale;
  std::optional<Array<float>> bias;
  Clamp clamp;
  Quantizer x_quantizer;

  // pybind11 allocates with these: an instance without __init__ is empty, not random.
  static void* operator new(std::size_t size) {
    void* memory = ::operator new(size);
    std::memset(memory, 0, size);
    return memory;
  }
  static void operator delete(void* memory) { ::operator delete(memory); }

  CanonicalLayer view() const {
    expect(static_cast<bool>(weight), "layer", "one that was initialized");
    expect(weight.ndim() == 2, "weight", "[outputs, inputs]");
    expect(weight_scale.size() == weight.shape(0), "weight_scale", "one scale per output");
    expect(!bias || bias->size() == weight.shape(0), "bias", "one value per output");
    return {weight.data(),   weight_scale.data(), bias ? bias->data() : nullptr,
            weight.shape(1), weight.shape(0),     clamp,
            x_quantizer};
  }
};

LayerArrays make_layer(Array<std::int8_t> weight, Array<float> weight_scale,
                       std::optional<Array<float>> bias, float lo, float hi, float input_scale,
                       int input_zero_point) {
  return {std::move(weight),
          std::move(weight_scale),
          std::move(bias),
          {lo, hi},
          make_quantizer(input_scale, input_zero_point)};
}

bool has_kernel(WeightForm form) {
  const KernelTable& kernels = active_kernels();
  for (int i = 0; i < kernels.linear_count; ++i)
    if (kernels.linears[i].form == form) return true;
  return false;
}

// The forms that are named, or else those that may pay and the active kernels read.
std::vector<SparseSizes> sparse_forms(
    const std::vector<CanonicalLayer>& layers,
    const std::optional<std::vector<std::vector<std::string>>>& forms) {
  expect(!forms || forms->size() == layers.size(), "forms", "one list per layer");
  const bool bitmask = !forms && has_kernel(WeightForm::kBitmask);
  const bool picks = !forms && has_kernel(WeightForm::kPicks);
  std::vector<SparseSizes> sizes;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (!forms) {
      const SparseSizes own = measure_sparse(layers[i]);
      sizes.push_back(measure_forms(layers[i], own.bitmask && bitmask, own.picks && picks));
      continue;
    }
    bool wants_bitmask = false;
    bool wants_picks = false;
    for (const std::string& form : (*forms)[i]) {
      expect(form == "bitmask" || form == "picks", "forms", "'bitmask' or 'picks'");
      (form == "picks" ? wants_picks : wants_bitmask) = true;
    }
    sizes.push_back(measure_forms(layers[i], wants_bitmask, wants_picks));
  }
  return sizes;
}

py::array_t<std::uint8_t> pack(const std::vector<LayerArrays>& layers, const std::string& input,
                               bool pixel_codes, const std::optional<Array<float>>& multiplier,
                               const std::optional<Array<float>>& offset,
                               const std::optional<Array<float>>& pixel_table,
                               const std::optional<std::vector<std::vector<std::string>>>& forms) {
  NetworkSpec spec;
  for (const LayerArrays& layer : layers) spec.layers.push_back(layer.view());
  spec.sparse = sparse_forms(spec.layers, forms);
  if (input == "static") {
    spec.input = InputKind::kStatic;
  } else if (input == "affine") {
    spec.input = InputKind::kAffine;
    expect(!layers.empty() && multiplier && offset && multiplier->size() == spec.layers[0].inputs &&
               offset->size() == multiplier->size(),
           "multiplier, offset", "one value per input");
    spec.multiplier = multiplier->data();
    spec.offset = offset->data();
  } else if (input == "dynamic") {
    spec.input = InputKind::kDynamic;
  } else {
    invalid("input", "'static', 'affine' or 'dynamic'", "'" + input + "'");
  }
  expect(!(pixel_codes && pixel_table), "pixel_codes, pixel_table", "one of them");
  if (pixel_codes) spec.pixels = PixelKind::kCodes;
  if (pixel_table) {
    expect(pixel_table->ndim() == 2 && pixel_table->shape(1) == 256, "pixel_table",
           "[channels, 256]");
    spec.pixels = PixelKind::kTable;
    spec.pixel_table = pixel_table->data();
    spec.channels = pixel_table->shape(0);
  }
  py::array_t<std::uint8_t> packed(packed_network_bytes(spec));
  pack_network(spec, std::span(reinterpret_cast<std::byte*>(packed.mutable_data()),
                               static_cast<std::size_t>(packed.size())));
  return packed;
}

NetworkView view_packed(const Array<std::uint8_t>& packed) {
  return view_network(std::span(reinterpret_cast<const std::byte*>(packed.data()),
                                static_cast<std::size_t>(packed.size())));
}

// Layer 0 of `packed` on codes, by the active kernels: what kernel tests call.
void linear(const Array<std::uint8_t>& codes, const Array<std::uint8_t>& packed,
            const Array<float>& row_scale, const Array<std::int32_t>& row_zero_point,
            const py::array& out, float out_scale, int out_zero_point, bool bounded,
            const std::optional<std::string>& kernel) {
  const NetworkView network = view_packed(packed);
  expect(codes.ndim() == 2 && codes.shape(1) == network.record(0).inputs, "codes",
         "[rows, inputs]");
  expect(out.ndim() == 2 && out.shape(0) == codes.shape(0) && out.writeable() &&
             out.shape(1) == network.record(0).outputs && (out.flags() & py::array::c_style) != 0,
         "out", "a writable, contiguous [rows, outputs]");
  const std::vector<Quantizer> quantizers = row_quantizers(row_scale, row_zero_point);
  const bool one = quantizers.size() == 1;
  expect(one || static_cast<py::ssize_t>(quantizers.size()) == codes.shape(0), "row_scale",
         "one for all rows or one per row");
  LinearArgs args{};
  args.x = codes.data();
  args.x_stride = codes.shape(1);
  args.x_readable = codes.size();
  args.rows = codes.shape(0);
  if (one)
    args.x_quantizer = quantizers[0];
  else
    args.row_quantizers = quantizers.data();
  args.clamp = network.record(0).clamp;
  args.y = const_cast<void*>(out.data());
  args.y_stride = out.shape(1);
  const KernelTable& kernels = active_kernels();
  const LinearKernel* choice =
      kernel ? nullptr : &PlanView(kernels, network).kernel(0, codes.shape(0));
  for (int i = 0; kernel && i < kernels.linear_count; ++i)
    if (*kernel == kernels.linears[i].name) choice = &kernels.linears[i];
  expect(choice != nullptr && network.has_form(0, choice->form), "kernel",
         "one of layer_kernels(packed, 0)");
  network.weights(0, choice->form, args);
  LinearOutput output = LinearOutput::kFloats;
  if (!out.dtype().is(py::dtype::of<float>())) {
    expect(out.dtype().is(py::dtype::of<std::uint8_t>()), "out", "float32 or uint8");
    args.y_quantizer = checked_quantizer(out_scale, out_zero_point);
    args.y_bounded = bounded;
    output = LinearOutput::kCodes;
  }
  run_single_linear(kernels, *choice, output, args);
}

// The same by reference.cpp, on canonical weights.
void reference_linear(const LayerArrays& layer, const Array<std::uint8_t>& codes,
                      const Array<float>& row_scale, const Array<std::int32_t>& row_zero_point,
                      const py::array& out, float out_scale, int out_zero_point) {
  const CanonicalLayer view = layer.view();
  expect(codes.ndim() == 2 && codes.shape(1) == view.inputs, "codes", "[rows, inputs]");
  expect(out.ndim() == 2 && out.shape(0) == codes.shape(0) && out.writeable() &&
             out.shape(1) == view.outputs && (out.flags() & py::array::c_style) != 0,
         "out", "a writable, contiguous [rows, outputs]");
  std::vector<Quantizer> rows = row_quantizers(row_scale, row_zero_point);
  if (rows.size() == 1) rows.resize(static_cast<std::size_t>(codes.shape(0)), rows[0]);
  expect(static_cast<py::ssize_t>(rows.size()) == codes.shape(0), "row_scale",
         "one for all rows or one per row");
  const reference::Linear linear{view.weight, view.weight_scale, view.bias,
                                 view.inputs, view.outputs,      view.clamp};
  void* y = const_cast<void*>(out.data());
  if (out.dtype().is(py::dtype::of<float>()))
    reference::linear_f32(linear, codes.data(), codes.shape(0), rows.data(),
                          static_cast<float*>(y));
  else
    reference::linear_u8(linear, codes.data(), codes.shape(0), rows.data(),
                         checked_quantizer(out_scale, out_zero_point),
                         static_cast<std::uint8_t*>(y));
}

py::dict cpu_info() {
  py::list rungs;
  const std::string active = active_kernels().name;
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
  info["threads"] = num_threads();
  info["ladder"] = rungs;
  return info;
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "Native kernels and the whole-network executor of fastmnist.";
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const InvalidArgument& e) {
      PyErr_SetString(PyExc_ValueError, e.what());
    }
  });

  m.def("cpu_info", &cpu_info);
  m.def(
      "set_isa", [](const std::string& isa) { return set_active_kernels(isa); }, py::arg("isa"));
  m.def("num_threads", &num_threads);
  m.def("set_num_threads", &set_num_threads, py::arg("count"));

  const auto strict = [](const char* name) { return py::arg(name).noconvert(); };
  m.def("quantize", &quantize, strict("x"), py::arg("scale"), py::arg("zero_point"), strict("out"));
  m.def("quantize_affine", &quantize_affine, strict("x"), strict("multiplier"), strict("offset"),
        strict("out"));
  m.def("dequantize", &dequantize, strict("q"), py::arg("scale"), py::arg("zero_point"),
        strict("out"));
  m.def("row_range", &row_range, strict("x"));
  m.def("quantizer_of_range", &quantizer_of_range, py::arg("lo"), py::arg("hi"));
  m.def("quantize_weights", &quantize_weights, strict("weight"));

  py::class_<LayerArrays>(m, "Layer", "One canonical layer: int8 weights with their scales.")
      .def(py::init(&make_layer), strict("weight"), strict("weight_scale"),
           py::arg("bias").noconvert().none(true), py::arg("lo"), py::arg("hi"),
           py::arg("input_scale"), py::arg("input_zero_point"));
  m.def("pack", &pack, py::arg("layers"), py::arg("input"), py::arg("pixel_codes") = false,
        py::arg("multiplier") = py::none(), py::arg("offset") = py::none(),
        py::arg("pixel_table") = py::none(), py::arg("forms") = py::none());
  m.def("linear", &linear, strict("codes"), strict("packed"), strict("row_scale"),
        strict("row_zero_point"), strict("out"), py::arg("out_scale") = 1.0f,
        py::arg("out_zero_point") = 0, py::arg("bounded") = false, py::arg("kernel") = py::none());
  m.def("linear_kernels", [] {
    std::vector<std::string> names;
    const KernelTable& kernels = active_kernels();
    for (int i = 0; i < kernels.linear_count; ++i) names.emplace_back(kernels.linears[i].name);
    return names;
  });
  m.def("reference_linear", &reference_linear, py::arg("layer"), strict("codes"),
        strict("row_scale"), strict("row_zero_point"), strict("out"), py::arg("out_scale") = 1.0f,
        py::arg("out_zero_point") = 0);
  bindings::register_plans(m);
  bindings::register_limits(m);
  bindings::register_model(m);
}
