// torch.ops.fastmnist.*, those on floats: activations, softmax and norms, by the kernels that
// compiled models use, so that modules give the same bits. Large tensors go to the pool by rows; no
// result depends on how.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>

#include "bindings/errors.h"
#include "bindings/stable_tensor.h"
#include "core/activations.h"
#include "core/threads.h"
#include "kernels/tables.h"

namespace {

using fastmnist::FloatKernels;
using namespace fastmnist::bindings;

// What one thread takes at a time: less would cost more than it gains.
constexpr std::int64_t kGrainValues = 16384;

// body(first, end) for shares of `rows` rows of `width` values.
template <typename Body>
void by_rows(std::int64_t rows, std::int64_t width, Body body) {
  const std::int64_t grain =
      std::max<std::int64_t>(kGrainValues / std::max<std::int64_t>(width, 1), 1);
  unwrap(fastmnist::parallel_for(
      rows, grain,
      [](void* context, std::int64_t begin, std::int64_t end) {
        (*static_cast<Body*>(context))(begin, end);
      },
      &body));
}

const float* values_of(const Tensor& t) { return static_cast<const float*>(t.data_ptr()); }

// A new tensor in the form of x, and what is to be computed on its rows of `width` values:
// row(x, y).
template <typename Row>
Tensor row_by_row(const Tensor& x, std::int64_t width, Row row) {
  const Tensor rows = packed_rows(x);
  Tensor out = empty(x.sizes(), ScalarType::Float);
  const float* from = values_of(rows);
  auto* to = static_cast<float*>(out.data_ptr());
  const std::int64_t count = width > 0 ? rows.numel() / width : 0;
  by_rows(count, width, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t m = begin; m < end; ++m) row(from + m * width, to + m * width);
  });
  return out;
}

std::int64_t last_size(const Tensor& x) {
  if (x.dim() == 0) invalid("x", "rows of values", "a single number");
  return x.size(x.dim() - 1);
}

const FloatKernels& float_kernels() { return kernels_in_use().floats; }

Tensor activate(const Tensor& x, std::int64_t function, double p0, double p1, double p2) {
  check_type(x, "x", ScalarType::Float, "float32");
  const fastmnist::Activation activation = unwrap(fastmnist::checked_activation(
      function, static_cast<float>(p0), static_cast<float>(p1), static_cast<float>(p2)));
  const Tensor values = packed_rows(x);
  Tensor out = empty(x.sizes(), ScalarType::Float);
  const float* from = values_of(values);
  auto* to = static_cast<float*>(out.data_ptr());
  const FloatKernels& kernels = float_kernels();
  by_rows(values.numel(), 1, [&, from, to](std::int64_t begin, std::int64_t end) {
    kernels.activate(from + begin, end - begin, activation, to + begin);
  });
  return out;
}

Tensor softmax(const Tensor& x, bool log) {
  check_type(x, "x", ScalarType::Float, "float32");
  const std::int64_t width = last_size(x);
  const auto kernel = log ? float_kernels().log_softmax : float_kernels().softmax;
  return row_by_row(x, width, [=](const float* from, float* to) { kernel(from, width, to); });
}

// The values of one parameter of a norm, in a tensor of their own where they are strided.
std::optional<Tensor> norm_values(const std::optional<Tensor>& t, const char* name,
                                  std::int64_t width) {
  if (!t.has_value()) return {};
  check_type(*t, name, ScalarType::Float, "float32");
  if (t->dim() != 1 || t->numel() != width)
    invalid(name, std::to_string(width) + " values, as x has in a row", shape_of(*t));
  return packed_rows(*t);
}

Tensor layer_norm(const Tensor& x, std::optional<Tensor> weight, std::optional<Tensor> bias,
                  double epsilon) {
  check_type(x, "x", ScalarType::Float, "float32");
  const std::int64_t width = last_size(x);
  const auto eps = static_cast<float>(epsilon);
  if (!std::isfinite(eps) || eps < 0)
    invalid("epsilon", "a finite number, 0 or more", std::to_string(epsilon));
  const std::optional<Tensor> w = norm_values(weight, "weight", width);
  const std::optional<Tensor> b = norm_values(bias, "bias", width);
  const float* multiplier = w.has_value() ? values_of(*w) : nullptr;
  const float* offset = b.has_value() ? values_of(*b) : nullptr;
  const auto kernel = float_kernels().layer_norm;
  return row_by_row(x, width, [=](const float* from, float* to) {
    kernel(from, width, multiplier, offset, eps, to);
  });
}

// That x's sizes end in those of t.
void check_ends_in(const Tensor& x, const Tensor& t, const char* name) {
  const Sizes whole = x.sizes();
  const Sizes part = t.sizes();
  bool same = !part.empty() && part.size() <= whole.size();
  for (std::size_t i = 1; same && i <= part.size(); ++i)
    same = part[part.size() - i] == whole[whole.size() - i];
  if (!same) invalid(name, "a size in which x's ends, " + shape_of(x), shape_of(t));
}

Tensor affine(const Tensor& x, const Tensor& multiplier, const Tensor& offset) {
  check_type(x, "x", ScalarType::Float, "float32");
  check_type(multiplier, "multiplier", ScalarType::Float, "float32");
  check_type(offset, "offset", ScalarType::Float, "float32");
  check_ends_in(x, multiplier, "multiplier");
  if (shape_of(offset) != shape_of(multiplier))
    invalid("offset", "the size of multiplier, " + shape_of(multiplier), shape_of(offset));
  const Tensor factors = packed_rows(multiplier);
  const Tensor offsets = packed_rows(offset);
  const std::int64_t width = factors.numel();
  const auto kernel = float_kernels().affine;
  return row_by_row(
      x, width, [=, m = values_of(factors), o = values_of(offsets)](const float* from, float* to) {
        kernel(from, width, m, o, to);
      });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fastmnist, m) {
  m.def("activate(Tensor x, int function, float p0=0.0, float p1=0.0, float p2=0.0) -> Tensor");
  m.def("softmax(Tensor x, bool log) -> Tensor");
  m.def("layer_norm(Tensor x, Tensor? weight, Tensor? bias, float epsilon) -> Tensor");
  m.def("affine(Tensor x, Tensor multiplier, Tensor offset) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(fastmnist, CPU, m) {
  m.impl("activate", TORCH_BOX(&activate));
  m.impl("softmax", TORCH_BOX(&softmax));
  m.impl("layer_norm", TORCH_BOX(&layer_norm));
  m.impl("affine", TORCH_BOX(&affine));
}
