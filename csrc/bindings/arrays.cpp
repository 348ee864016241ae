#include "bindings/arrays.h"

#include <pybind11/numpy.h>

#include <bit>
#include <cstring>

namespace fastmnist::bindings {
namespace {

using Numpy = py::detail::npy_api;

// NPY_ARRAY_WARN_ON_WRITE: results of broadcast_arrays warn, in Python, when made writable.
constexpr int kWarnsOnWrite = static_cast<int>(0x80000000U);
constexpr char kSwapped = std::endian::native == std::endian::little ? '>' : '<';

Element element_of(const py::detail::PyArrayDescr_Proxy& type) {
  if (type.byteorder == kSwapped) return Element::kOther;
  switch (type.type_num) {
    case Numpy::NPY_FLOAT_:
      return Element::kFloat32;
    case Numpy::NPY_UBYTE_:
      return Element::kUint8;
    case Numpy::NPY_LONG_:
      return sizeof(long) == 8 ? Element::kInt64 : Element::kOther;
    case Numpy::NPY_LONGLONG_:
      return Element::kInt64;
    default:
      return Element::kOther;
  }
}

Element element_of(const char* format) {
  if (format == nullptr) return Element::kUint8;
  if (*format == '@' || *format == '=') ++format;
  if (std::strcmp(format, "f") == 0) return Element::kFloat32;
  if (std::strcmp(format, "B") == 0) return Element::kUint8;
  if (std::strcmp(format, "q") == 0 || (sizeof(long) == 8 && std::strcmp(format, "l") == 0))
    return Element::kInt64;
  return Element::kOther;
}

Element element_of(DLDataType type) {
  if (type.lanes != 1) return Element::kOther;
  if (type.code == kDLFloat && type.bits == 32) return Element::kFloat32;
  if (type.code == kDLUInt && type.bits == 8) return Element::kUint8;
  if (type.code == kDLInt && type.bits == 64) return Element::kInt64;
  return Element::kOther;
}

bool is_ndarray(PyObject* object) { return Py_TYPE(object) == Numpy::get().PyArray_Type_; }

int flags_of(PyObject* array) { return py::detail::array_proxy(array)->flags; }

std::int64_t bytes_of(Element element) {
  return element == Element::kUint8 ? 1 : element == Element::kInt64 ? 8 : 4;
}

}  // namespace

bool is_plain(PyObject* object) {
  if (is_ndarray(object)) return (flags_of(object) & kWarnsOnWrite) == 0;
  return find_torch_type(Py_TYPE(object)) != nullptr;
}

bool ArrayView::read(PyObject* object, bool ask) {
  if (is_ndarray(object)) return from_numpy(object);
  const TorchType* type = find_torch_type(Py_TYPE(object));
  if (type == nullptr || (ask && is_negative_view(*type, object))) return false;
  return from_dlpack(object, type->api);
}

bool ArrayView::write(PyObject* object) {
  if (is_ndarray(object) && (flags_of(object) & kWarnsOnWrite) == 0)
    return (flags_of(object) & Numpy::NPY_ARRAY_WRITEABLE_) != 0 && from_numpy(object);
  if (PyObject_CheckBuffer(object) != 0) return from_buffer(object);
  const TorchType* type = find_torch_type(Py_TYPE(object));
  return type != nullptr && from_dlpack(object, type->api);
}

bool ArrayView::from_numpy(PyObject* object) {
  const auto* array = py::detail::array_proxy(object);
  if (array->nd > kMaxDimensions) return false;
  library_ = Library::kNumpy;
  element_ = element_of(*py::detail::array_descriptor_proxy(array->descr));
  dimensions_ = array->nd;
  for (int i = 0; i < array->nd; ++i) shape_[static_cast<std::size_t>(i)] = array->dimensions[i];
  contiguous_ = (array->flags & Numpy::NPY_ARRAY_C_CONTIGUOUS_) != 0;
  data_ = array->data;
  return aligned();
}

bool ArrayView::from_buffer(PyObject* object) {
  constexpr int kFlags = PyBUF_FORMAT | PyBUF_STRIDES | PyBUF_WRITABLE;
  if (PyObject_GetBuffer(object, &buffer_, kFlags) != 0) {
    PyErr_Clear();
    return false;
  }
  if (buffer_.ndim > kMaxDimensions) return false;
  library_ = Library::kNumpy;
  element_ = element_of(buffer_.format);
  dimensions_ = buffer_.ndim;
  for (int i = 0; i < buffer_.ndim; ++i) shape_[static_cast<std::size_t>(i)] = buffer_.shape[i];
  contiguous_ = PyBuffer_IsContiguous(&buffer_, 'C') != 0;
  data_ = buffer_.buf;
  return aligned();
}

// NumPy allows arrays whose elements are not aligned; kernels do not. (Other elements are refused
// later, by name; their size may be anything, 0 for a record without fields.)
bool ArrayView::aligned() const {
  const std::int64_t alignment = element_ == Element::kOther ? 1 : bytes_of(element_);
  return reinterpret_cast<std::uintptr_t>(data_) % static_cast<std::uintptr_t>(alignment) == 0;
}

bool ArrayView::from_dlpack(PyObject* object, const DLPackExchangeAPI* api) {
  DLTensor tensor{};
  if (api->dltensor_from_py_object_no_sync(object, &tensor) != 0) {
    PyErr_Clear();
    return false;
  }
  if (tensor.device.device_type != kDLCPU || tensor.ndim > kMaxDimensions) return false;
  library_ = Library::kTorch;
  element_ = element_of(tensor.dtype);
  dimensions_ = tensor.ndim;
  std::int64_t expected = 1;
  contiguous_ = true;
  for (int i = tensor.ndim; i-- > 0;) {
    shape_[static_cast<std::size_t>(i)] = tensor.shape[i];
    if (tensor.strides != nullptr && tensor.shape[i] != 1 && tensor.strides[i] != expected)
      contiguous_ = false;
    expected *= tensor.shape[i];
  }
  data_ = static_cast<std::byte*>(tensor.data) + tensor.byte_offset;
  contiguous_ = contiguous_ || expected == 0;
  return tensor.data != nullptr || expected == 0;
}

std::int64_t ArrayView::count() const {
  std::int64_t n = 1;
  for (int i = 0; i < dimensions_; ++i) n *= size(i);
  return n;
}

std::int64_t ArrayView::bytes() const { return count() * bytes_of(element_); }

std::string ArrayView::shape_text() const {
  std::string text = "[";
  for (int i = 0; i < dimensions_; ++i) text += (i > 0 ? ", " : "") + std::to_string(size(i));
  return text + "]";
}

bool refuses_writing(PyObject* object) {
  const TorchType* type = find_torch_type(Py_TYPE(object));
  if (type == nullptr) return false;  // a buffer says so itself
  return is_negative_view(*type, object) || requires_grad(*type, object);
}

}  // namespace fastmnist::bindings
