// torch.ops.fastmnist.*: operators on plain tensors, registered with LibTorch's stable ABI.
//
// Built once, this file serves every torch from 2.10 on, from Python and from C++ alike
// (torch.ops.load_library; no Python symbols). Weights come as a packed uint8 tensor
// (pack/network.h), which is checked at every call. Exceptions surface as RuntimeError, so the
// Python layer, which knows argument names, checks first. Fake kernels live in Python (_ops.py).
#include <torch/csrc/stable/library.h>

#include <span>
#include <string>
#include <vector>

#include "bindings/errors.h"
#include "bindings/stable_tensor.h"
#include "core/quantizers.h"
#include "core/threads.h"
#include "kernels/tables.h"
#include "pack/network.h"
#include "pack/sparse_encoding.h"
#include "runtime/executor.h"
#include "runtime/linear.h"
#include "runtime/plan.h"
#include "runtime/scratch.h"

namespace {

using fastmnist::checked_quantizer;
using fastmnist::NetworkView;
using fastmnist::Quantizer;
using namespace fastmnist::bindings;

Tensor quantize(const Tensor& x, double scale, std::int64_t zero_point) {
  check_type(x, "x", ScalarType::Float, "float32");
  const Quantizer q = unwrap(checked_quantizer(scale, zero_point));
  const Tensor rows = packed_rows(x);
  Tensor out = empty(x.sizes(), ScalarType::Byte);
  kernels_in_use().rows.quantize(static_cast<const float*>(rows.data_ptr()), rows.numel(), q,
                                 static_cast<std::uint8_t*>(out.data_ptr()));
  return out;
}

Tensor dequantize(const Tensor& q, double scale, std::int64_t zero_point) {
  check_type(q, "q", ScalarType::Byte, "uint8");
  const Quantizer quant = unwrap(checked_quantizer(scale, zero_point));
  const Tensor codes = packed_rows(q);
  Tensor out = empty(q.sizes(), ScalarType::Float);
  kernels_in_use().rows.dequantize(static_cast<const std::uint8_t*>(codes.data_ptr()),
                                   codes.numel(), quant, static_cast<float*>(out.data_ptr()));
  return out;
}

template <typename T>
std::span<const T> values_of(const Tensor& t) {
  return {static_cast<const T*>(t.data_ptr()), static_cast<std::size_t>(t.numel())};
}

// One layer with a static input scale from the canonical encoding of its sparse weights.
Tensor pack_sparse(const Tensor& bitmask, const Tensor& values, std::int64_t in_features,
                   const Tensor& weight_scale, const Tensor& bias, double lo, double hi,
                   double input_scale, std::int64_t input_zero_point) {
  check_type(bitmask, "bitmask", ScalarType::Byte, "uint8");
  check_type(values, "values", ScalarType::Char, "int8");
  check_type(weight_scale, "weight_scale", ScalarType::Float, "float32");
  check_type(bias, "bias", ScalarType::Float, "float32");
  const std::int64_t outputs = weight_scale.numel();
  if (in_features < 1 || in_features > fastmnist::kMaxInputs)
    invalid("in_features", "1 to 65536", std::to_string(in_features));
  if (outputs < 1) invalid("weight_scale", "one scale per output", "none");
  const std::int64_t row_bytes = (in_features + 7) / 8;
  if (bitmask.dim() != 2 || bitmask.size(0) != outputs || bitmask.size(1) != row_bytes)
    invalid("bitmask",
            std::to_string(outputs) + " rows of " + std::to_string(row_bytes) +
                " bytes, for as many outputs as weight_scale has",
            shape_of(bitmask));
  if (values.dim() != 1) invalid("values", "one dimension", shape_of(values));
  if (bias.numel() != outputs)
    invalid("bias", std::to_string(outputs) + " values", std::to_string(bias.numel()));
  const Tensor bits = packed_rows(bitmask);
  const Tensor rest = packed_rows(values);
  const Tensor scales = packed_rows(weight_scale);
  const Tensor biases = packed_rows(bias);
  std::vector<std::int8_t> weight(static_cast<std::size_t>(outputs * in_features));
  unwrap(fastmnist::decode_sparse(values_of<std::uint8_t>(bits), values_of<std::int8_t>(rest),
                                  outputs, in_features, weight.data()));
  fastmnist::NetworkSpec spec;
  spec.layers.push_back({weight.data(),
                         static_cast<const float*>(scales.data_ptr()),
                         static_cast<const float*>(biases.data_ptr()),
                         in_features,
                         outputs,
                         {static_cast<float>(lo), static_cast<float>(hi)},
                         unwrap(checked_quantizer(input_scale, input_zero_point))});
  spec.forms.push_back(
      fastmnist::forms_worth_trying(spec.layers[0], fastmnist::readable_forms(kernels_in_use())));
  const std::int64_t bytes[] = {unwrap(fastmnist::packed_network_bytes(spec))};
  Tensor packed = empty(Sizes(bytes, 1), ScalarType::Byte);
  unwrap(fastmnist::pack_network(spec, {static_cast<std::byte*>(packed.data_ptr()),
                                        static_cast<std::size_t>(packed.numel())}));
  return packed;
}

// The packed network in a tensor, checked. The tensor must outlive the view.
NetworkView view(const Tensor& packed) {
  check_type(packed, "packed", ScalarType::Byte, "uint8");
  if (!packed.is_contiguous())
    invalid("packed", "a contiguous tensor", "a strided view " + shape_of(packed));
  return unwrap(fastmnist::view_network(std::span(static_cast<const std::byte*>(packed.data_ptr()),
                                                  static_cast<std::size_t>(packed.numel()))));
}

// That x's last dimension is what the layers take, and that the caller knows what they give.
void check_sizes(const Tensor& x, const NetworkView& network, std::int64_t out_features) {
  const Sizes sizes = x.sizes();
  if (sizes.empty() || sizes.back() != network.inputs())
    invalid("x", "rows of " + std::to_string(network.inputs()) + " values",
            sizes.empty() ? "a single number" : std::to_string(sizes.back()));
  if (out_features != network.outputs())
    invalid("out_features", std::to_string(network.outputs()), std::to_string(out_features));
}

Tensor mlp(const Tensor& x, const Tensor& packed, std::int64_t out_features) {
  const NetworkView network = view(packed);
  const bool pixels = x.scalar_type() == ScalarType::Byte;
  if (!pixels) check_type(x, "x", ScalarType::Float, "float32 or uint8");
  check_sizes(x, network, out_features);
  const auto type = pixels ? fastmnist::RowType::kPixels : fastmnist::RowType::kFloat32;
  unwrap(fastmnist::check_rows(network, type));
  const Tensor rows = packed_rows(x);
  Tensor out = empty(x.sizes(), ScalarType::Float, network.outputs());
  unwrap(fastmnist::run_network(network, {type, rows.data_ptr(), rows.numel() / network.inputs()},
                                static_cast<float*>(out.data_ptr()), fastmnist::shared_scratch()));
  return out;
}

// One layer on codes: the first of `packed`, with its own input scale and zero point.
Tensor linear(const Tensor& codes, const Tensor& packed, std::int64_t out_features,
              const Quantizer& y_quantizer, fastmnist::LinearOutput output) {
  check_type(codes, "codes", ScalarType::Byte, "uint8");
  const NetworkView network = view(packed);
  if (network.layers() != 1 || network.input() == fastmnist::InputKind::kDynamic)
    invalid("packed", "one layer with a static input scale",
            std::to_string(network.layers()) + " layers, inputs scaled " +
                (network.input() == fastmnist::InputKind::kDynamic ? "per row" : "once"));
  const bool floats = output == fastmnist::LinearOutput::kFloats;
  check_sizes(codes, network, out_features);
  Tensor out =
      empty(codes.sizes(), floats ? ScalarType::Float : ScalarType::Byte, network.outputs());
  const Tensor rows = packed_rows(codes);
  const std::int64_t count = rows.numel() / network.inputs();
  const fastmnist::KernelTable& kernels = kernels_in_use();
  const fastmnist::LinearKernel& kernel =
      fastmnist::PlanView(kernels, network).kernel(0, shape_of(network, 0, count, !floats));
  const auto* data = static_cast<const std::uint8_t*>(rows.data_ptr());
  const fastmnist::CodeRows x = {data, network.inputs(), data, data + rows.numel()};
  fastmnist::LinearArgs args =
      make_args(network, 0, kernel.form, x, count, out.data_ptr(), network.outputs());
  args.y_quantizer = y_quantizer;
  unwrap(fastmnist::run_single_linear(kernel, output, args));
  return out;
}

Tensor linear_f32(const Tensor& codes, const Tensor& packed, std::int64_t out_features) {
  return linear(codes, packed, out_features, {}, fastmnist::LinearOutput::kFloats);
}

Tensor linear_u8(const Tensor& codes, const Tensor& packed, std::int64_t out_features, double scale,
                 std::int64_t zero_point) {
  return linear(codes, packed, out_features, unwrap(checked_quantizer(scale, zero_point)),
                fastmnist::LinearOutput::kCodes);
}

}  // namespace

STABLE_TORCH_LIBRARY(fastmnist, m) {
  m.def("quantize(Tensor x, float scale, int zero_point) -> Tensor");
  m.def("dequantize(Tensor q, float scale, int zero_point) -> Tensor");
  m.def("linear(Tensor codes, Tensor packed, SymInt out_features) -> Tensor");
  m.def(
      "linear_u8(Tensor codes, Tensor packed, SymInt out_features, float scale, int zero_point) "
      "-> Tensor");
  m.def(
      "pack_sparse(Tensor bitmask, Tensor values, SymInt in_features, Tensor weight_scale, "
      "Tensor bias, float lo, float hi, float input_scale, int input_zero_point) -> Tensor");
  m.def("mlp(Tensor x, Tensor packed, SymInt out_features) -> Tensor");
  fastmnist::set_num_threads_provider(
      [] { return static_cast<int>(torch::stable::get_num_threads()); });
}

STABLE_TORCH_LIBRARY_IMPL(fastmnist, CPU, m) {
  m.impl("quantize", TORCH_BOX(&quantize));
  m.impl("dequantize", TORCH_BOX(&dequantize));
  m.impl("linear", TORCH_BOX(&linear_f32));
  m.impl("linear_u8", TORCH_BOX(&linear_u8));
  m.impl("pack_sparse", TORCH_BOX(&pack_sparse));
  m.impl("mlp", TORCH_BOX(&mlp));
}
