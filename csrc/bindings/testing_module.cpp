#include "bindings/testing_module.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bindings/errors.h"
#include "bindings/kernel_record.h"
#include "bindings/layer.h"
#include "bindings/numpy_arrays.h"
#include "core/quantizers.h"
#include "kernels/reference.h"
#include "kernels/tables.h"
#include "pack/network.h"
#include "runtime/linear.h"
#include "runtime/plan.h"

namespace fastmnist::bindings {
namespace {

void check_size(const char* name, const py::array& array, const char* of, py::ssize_t size) {
  if (array.size() != size)
    invalid(name, "as many values as " + std::string(of) + " has, " + std::to_string(size),
            std::to_string(array.size()));
}

const RowKernels& row_kernels() { return unwrap(active_kernels())->rows; }

bool quantize(const Array<float>& x, float scale, int zero_point, Array<std::uint8_t>& out) {
  check_size("out", out, "x", x.size());
  return row_kernels().quantize(x.data(), x.size(), unwrap(checked_quantizer(scale, zero_point)),
                                out.mutable_data());
}

bool quantize_affine(const Array<float>& x, const Array<float>& multiplier,
                     const Array<float>& offset, Array<std::uint8_t>& out) {
  check_size("multiplier", multiplier, "x", x.size());
  check_size("offset", offset, "x", x.size());
  check_size("out", out, "x", x.size());
  return row_kernels().quantize_affine(x.data(), x.size(), multiplier.data(), offset.data(),
                                       out.mutable_data());
}

void dequantize(const Array<std::uint8_t>& q, float scale, int zero_point, Array<float>& out) {
  check_size("out", out, "q", q.size());
  row_kernels().dequantize(q.data(), q.size(), unwrap(checked_quantizer(scale, zero_point)),
                           out.mutable_data());
}

py::tuple row_range(const Array<float>& x) {
  const RowRange range = row_kernels().row_range(x.data(), x.size());
  return py::make_tuple(range.lo, range.hi, range.finite);
}

// ---- one layer --------------------------------------------------------------------------------

// One for all rows, or one per row.
std::vector<Quantizer> row_quantizers(const Array<float>& scale,
                                      const Array<std::int32_t>& zero_point, std::int64_t rows) {
  if (scale.ndim() != 1 || zero_point.ndim() != 1 || scale.size() != zero_point.size() ||
      (scale.size() != 1 && scale.size() != rows))
    invalid("row_scale, row_zero_point", "1 or " + std::to_string(rows) + " values each",
            shape_text(scale) + " and " + shape_text(zero_point));
  std::vector<Quantizer> quantizers;
  for (py::ssize_t m = 0; m < scale.size(); ++m)
    quantizers.push_back(unwrap(checked_quantizer(scale.data()[m], zero_point.data()[m])));
  return quantizers;
}

void check_codes(const Array<std::uint8_t>& codes, std::int64_t inputs) {
  if (codes.ndim() != 2 || codes.shape(1) != inputs)
    invalid("codes", "[rows, " + std::to_string(inputs) + "]", shape_text(codes));
}

// Floats or codes, by the type of `out`.
LinearOutput check_out(const py::array& out, std::int64_t rows, std::int64_t outputs) {
  const bool floats = out.dtype().is(py::dtype::of<float>());
  const bool contiguous = (out.flags() & py::array::c_style) != 0;
  if (out.ndim() != 2 || out.shape(0) != rows || out.shape(1) != outputs || !contiguous ||
      !out.writeable() || (!floats && !out.dtype().is(py::dtype::of<std::uint8_t>())))
    invalid("out",
            "a writable, contiguous float32 or uint8 [" + std::to_string(rows) + ", " +
                std::to_string(outputs) + "]",
            std::string(out.writeable() ? "" : "read-only ") +
                (contiguous ? "" : "non-contiguous ") + array_text(out));
  return floats ? LinearOutput::kFloats : LinearOutput::kCodes;
}

NetworkView view_packed(const Array<std::uint8_t>& packed) {
  return unwrap(view_network(std::span(reinterpret_cast<const std::byte*>(packed.data()),
                                       static_cast<std::size_t>(packed.size()))));
}

// Layer 0 of `packed` on codes, by the active kernels: what kernel tests call.
void linear(const Array<std::uint8_t>& codes, const Array<std::uint8_t>& packed,
            const Array<float>& row_scale, const Array<std::int32_t>& row_zero_point,
            const py::array& out, float out_scale, int out_zero_point, bool bounded,
            const std::optional<KernelRecord>& kernel) {
  const NetworkView network = view_packed(packed);
  check_codes(codes, network.record(0).inputs);
  const std::int64_t rows = codes.shape(0);
  const LinearOutput output = check_out(out, rows, network.record(0).outputs);
  const std::vector<Quantizer> quantizers = row_quantizers(row_scale, row_zero_point, rows);
  const KernelTable& kernels = *unwrap(active_kernels());
  const LinearShape shape{rows,
                          network.record(0).inputs,
                          network.record(0).outputs,
                          output == LinearOutput::kCodes,
                          quantizers.size() != 1,
                          static_cast<int>(network.record(0).most_weight)};
  const LinearKernel* choice = kernel ? nullptr : &PlanView(kernels, network).kernel(0, shape);
  for (int i = 0; kernel && i < kernels.linear_count; ++i)
    if (kernel->name == name_of(kernels.linears[i])) choice = &kernels.linears[i];
  if (choice == nullptr || !network.has_form(0, choice->form) || !can(*choice, shape))
    invalid("kernel", "one of layer_kernels(packed, 0) that can compute this",
            "'" + (kernel ? kernel->name : "") + "'");
  LinearArgs args =
      make_args(network, 0, choice->form,
                {codes.data(), codes.shape(1), codes.data(), codes.data() + codes.size()}, rows,
                const_cast<void*>(out.data()), out.shape(1));
  if (quantizers.size() == 1)
    args.x_quantizer = quantizers[0];
  else
    args.row_quantizers = quantizers.data();
  if (output == LinearOutput::kCodes) {
    args.y_quantizer = unwrap(checked_quantizer(out_scale, out_zero_point));
    args.y_bounded = bounded;
  }
  unwrap(run_single_linear(*choice, output, args));
}

// The same by reference.cpp, on canonical weights.
void reference_linear(const LayerArrays& layer, const Array<std::uint8_t>& codes,
                      const Array<float>& row_scale, const Array<std::int32_t>& row_zero_point,
                      const py::array& out, float out_scale, int out_zero_point) {
  const CanonicalLayer view = layer.view();
  check_codes(codes, view.inputs);
  const LinearOutput output = check_out(out, codes.shape(0), view.outputs);
  std::vector<Quantizer> rows = row_quantizers(row_scale, row_zero_point, codes.shape(0));
  if (rows.size() == 1) rows.resize(static_cast<std::size_t>(codes.shape(0)), rows[0]);
  const reference::Linear linear{view.weight, view.weight_scale, view.bias,
                                 view.inputs, view.outputs,      view.clamp};
  void* y = const_cast<void*>(out.data());
  if (output == LinearOutput::kFloats)
    reference::linear_f32(linear, codes.data(), codes.shape(0), rows.data(),
                          static_cast<float*>(y));
  else
    reference::linear_u8(linear, codes.data(), codes.shape(0), rows.data(),
                         unwrap(checked_quantizer(out_scale, out_zero_point)),
                         static_cast<std::uint8_t*>(y));
}

}  // namespace

void register_testing(py::module_& m) {
  const auto strict = [](const char* name) { return py::arg(name).noconvert(); };
  m.def("quantize", &quantize, strict("x"), py::arg("scale"), py::arg("zero_point"), strict("out"));
  m.def("quantize_affine", &quantize_affine, strict("x"), strict("multiplier"), strict("offset"),
        strict("out"));
  m.def("dequantize", &dequantize, strict("q"), py::arg("scale"), py::arg("zero_point"),
        strict("out"));
  m.def("row_range", &row_range, strict("x"));
  m.def("linear", &linear, strict("codes"), strict("packed"), strict("row_scale"),
        strict("row_zero_point"), strict("out"), py::arg("out_scale") = 1.0f,
        py::arg("out_zero_point") = 0, py::arg("bounded") = false, py::arg("kernel") = py::none());
  m.def("reference_linear", &reference_linear, py::arg("layer"), strict("codes"),
        strict("row_scale"), strict("row_zero_point"), strict("out"), py::arg("out_scale") = 1.0f,
        py::arg("out_zero_point") = 0);
}

}  // namespace fastmnist::bindings
