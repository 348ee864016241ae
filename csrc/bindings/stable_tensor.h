// Tensors of LibTorch's stable ABI as _torch's operators take and make them.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <string>
#include <vector>

#include "bindings/errors.h"
#include "kernels/tables.h"

namespace fastmnist::bindings {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

using Sizes = torch::headeronly::IntHeaderOnlyArrayRef;

// A new contiguous tensor of these sizes, with another last one where `last` is given.
inline Tensor empty(Sizes sizes, ScalarType type, std::int64_t last = -1) {
  constexpr std::size_t kUsual = 8;
  std::int64_t usual[2 * kUsual];
  const std::size_t dimensions = sizes.size();
  std::vector<std::int64_t> more(dimensions > kUsual ? 2 * dimensions : 0);
  std::int64_t* const shape = dimensions > kUsual ? more.data() : usual;
  std::int64_t* const strides = shape + dimensions;
  std::int64_t stride = 1;
  for (std::size_t i = dimensions; i-- > 0; stride *= std::max<std::int64_t>(shape[i], 1)) {
    shape[i] = i + 1 == dimensions && last >= 0 ? last : sizes[i];
    strides[i] = stride;
  }
  AtenTensorHandle handle = nullptr;
  const std::int32_t dtype =
      type == ScalarType::Byte ? aoti_torch_dtype_uint8() : aoti_torch_dtype_float32();
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<std::int64_t>(dimensions),
                                                         shape, strides, dtype,
                                                         aoti_torch_device_type_cpu(), 0, &handle));
  return Tensor(handle);
}

inline Tensor packed_rows(const Tensor& t) {
  return t.is_contiguous() ? t : torch::stable::contiguous(t);
}

// As Python writes it.
inline std::string name_of(ScalarType type) {
  switch (type) {
    case ScalarType::Float:
      return "float32";
    case ScalarType::Double:
      return "float64";
    case ScalarType::Half:
      return "float16";
    case ScalarType::BFloat16:
      return "bfloat16";
    case ScalarType::Byte:
      return "uint8";
    case ScalarType::Char:
      return "int8";
    case ScalarType::Short:
      return "int16";
    case ScalarType::Int:
      return "int32";
    case ScalarType::Long:
      return "int64";
    case ScalarType::Bool:
      return "bool";
    default:
      return torch::headeronly::toString(type);
  }
}

inline std::string shape_of(const Tensor& t) {
  std::string text = "[";
  for (const std::int64_t size : t.sizes())
    text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

inline void check_type(const Tensor& t, const char* name, ScalarType expected,
                       const char* expected_name) {
  if (t.scalar_type() != expected)
    invalid(name, std::string("a tensor of ") + expected_name, name_of(t.scalar_type()));
}

inline const KernelTable& kernels_in_use() { return *unwrap(active_kernels()); }

}  // namespace fastmnist::bindings
