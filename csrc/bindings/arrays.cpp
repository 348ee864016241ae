#include "bindings/arrays.h"

#include <pybind11/numpy.h>

#include <cstring>
#include <utility>

namespace fastmnist::bindings {
namespace {

// torch's table of functions for a type, or nullptr. Types are few and live long; the last one
// asked for is remembered (the GIL guards it).
const DLPackExchangeAPI* exchange_api(PyTypeObject* type) {
  static PyTypeObject* last_type = nullptr;
  static const DLPackExchangeAPI* last_api = nullptr;
  if (type == last_type) return last_api;
  const DLPackExchangeAPI* api = nullptr;
  // Subclasses may answer questions with Python of their own: they take the slow path.
  const std::string name = type->tp_name;
  if (name != "Tensor" && name != "torch.Tensor" && name != "Parameter") return nullptr;
  PyObject* capsule =
      PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), "__dlpack_c_exchange_api__");
  if (capsule != nullptr && PyCapsule_IsValid(capsule, "dlpack_exchange_api"))
    api =
        static_cast<const DLPackExchangeAPI*>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
  Py_XDECREF(capsule);
  PyErr_Clear();
  if (api != nullptr && (api->header.version.major != DLPACK_MAJOR_VERSION ||
                         api->dltensor_from_py_object_no_sync == nullptr))
    api = nullptr;
  if (api != nullptr) {
    Py_INCREF(type);  // keeps the address from being reused by another type
    last_type = type;
    last_api = api;
  }
  return api;
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

bool is_plain_numpy(py::handle object) {
  return Py_TYPE(object.ptr()) == py::detail::npy_api::get().PyArray_Type_;
}

// torch may flip the signs of a tensor lazily, by a bit on the view that DLPack does not tell.
bool is_negative_view(py::handle tensor) {
  static PyObject* const name = PyUnicode_InternFromString("is_neg");
  PyObject* answer = PyObject_CallMethodNoArgs(tensor.ptr(), name);
  const bool negative = answer != Py_False;  // an error counts: `of` clears it, _inputs decides
  Py_XDECREF(answer);
  return negative;
}

DLDataType dlpack_type(Element element) {
  switch (element) {
    case Element::kInt64:
      return {kDLInt, 64, 1};
    case Element::kUint8:
      return {kDLUInt, 8, 1};
    default:
      return {kDLFloat, 32, 1};
  }
}

void set_python_error(void*, const char* kind, const char* message) {
  const py::gil_scoped_acquire gil;
  PyErr_Format(PyExc_RuntimeError, "%s: %s", kind, message);
}

NewArray new_torch(py::handle like, Element element, const std::vector<std::int64_t>& shape) {
  const DLPackExchangeAPI* api = exchange_api(Py_TYPE(like.ptr()));
  DLTensor prototype{};
  prototype.device = {kDLCPU, 0};
  prototype.ndim = static_cast<std::int32_t>(shape.size());
  prototype.dtype = dlpack_type(element);
  prototype.shape = const_cast<std::int64_t*>(shape.data());
  DLManagedTensorVersioned* managed = nullptr;
  if (api->managed_tensor_allocator(&prototype, &managed, nullptr, set_python_error) != 0)
    throw py::error_already_set();
  void* data = static_cast<std::byte*>(managed->dl_tensor.data) + managed->dl_tensor.byte_offset;
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  const bool readable = managed->dl_tensor.data != nullptr || count == 0;
  void* object = nullptr;
  if (api->managed_tensor_to_py_object_no_sync(managed, &object) != 0)
    throw py::error_already_set();
  NewArray array{py::reinterpret_steal<py::object>(static_cast<PyObject*>(object)), data};
  if (!readable) throw std::runtime_error("torch returned a tensor without data");  // a FakeTensor
  return array;
}

}  // namespace

ArrayView::ArrayView(ArrayView&& other) noexcept
    : library_(other.library_),
      element_(other.element_),
      dimensions_(other.dimensions_),
      shape_(other.shape_),
      contiguous_(other.contiguous_),
      data_(other.data_),
      buffer_(std::exchange(other.buffer_, Py_buffer{})) {}

ArrayView::~ArrayView() {
  if (buffer_.obj != nullptr) PyBuffer_Release(&buffer_);
}

std::optional<ArrayView> ArrayView::of(py::handle object, bool writable, bool ask) {
  ArrayView view;
  // Bytes do not say everything about other exporters: a masked array's mask would be lost.
  if (!writable && PyObject_CheckBuffer(object.ptr()) != 0 && !is_plain_numpy(object))
    return std::nullopt;
  const bool taken = PyObject_CheckBuffer(object.ptr()) != 0 ? view.from_buffer(object, writable)
                                                             : view.from_dlpack(object, ask);
  if (!taken) {
    PyErr_Clear();
    return std::nullopt;
  }
  return view;
}

bool ArrayView::from_buffer(py::handle object, bool writable) {
  const int flags = PyBUF_FORMAT | PyBUF_STRIDES | (writable ? PyBUF_WRITABLE : 0);
  if (PyObject_GetBuffer(object.ptr(), &buffer_, flags) != 0) return false;
  if (buffer_.ndim > kMaxDimensions) return false;
  library_ = Library::kNumpy;
  element_ = element_of(buffer_.format);
  dimensions_ = buffer_.ndim;
  for (int i = 0; i < buffer_.ndim; ++i) shape_[static_cast<std::size_t>(i)] = buffer_.shape[i];
  contiguous_ = PyBuffer_IsContiguous(&buffer_, 'C') != 0;
  data_ = buffer_.buf;
  // NumPy allows arrays whose elements are not aligned; kernels do not. (Other elements are refused
  // later, by name; their size may be anything, 0 for a record without fields.)
  const std::size_t alignment = element_ == Element::kFloat32 ? 4
                                : element_ == Element::kInt64 ? 8
                                                              : 1;
  return reinterpret_cast<std::uintptr_t>(data_) % alignment == 0;
}

bool ArrayView::from_dlpack(py::handle object, bool ask) {
  const DLPackExchangeAPI* api = exchange_api(Py_TYPE(object.ptr()));
  if (api == nullptr) return false;
  // Asked first: it may run Python (a __torch_function__ mode), which may change the tensor.
  if (ask && is_negative_view(object)) return false;
  DLTensor tensor{};
  if (api->dltensor_from_py_object_no_sync(object.ptr(), &tensor) != 0) return false;
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

std::string ArrayView::shape_text() const {
  std::string text = "[";
  for (int i = 0; i < dimensions_; ++i) text += (i > 0 ? ", " : "") + std::to_string(size(i));
  return text + "]";
}

bool refuses_writing(py::handle object) {
  if (exchange_api(Py_TYPE(object.ptr())) == nullptr) return false;  // a buffer says so itself
  if (is_negative_view(object)) {
    PyErr_Clear();
    return true;
  }
  return object.attr("requires_grad").cast<bool>();
}

NewArray new_array(py::handle like, Library library, Element element,
                   const std::vector<std::int64_t>& shape) {
  if (library == Library::kTorch) return new_torch(like, element, shape);
  if (element == Element::kInt64) {
    py::array_t<std::int64_t> array(shape);
    return {array, array.mutable_data()};
  }
  py::array_t<float> array(shape);
  return {array, array.mutable_data()};
}

}  // namespace fastmnist::bindings
