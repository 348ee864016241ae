#include "bindings/results.h"

#include <pybind11/numpy.h>

#include <cstddef>
#include <new>
#include <stdexcept>
#include <utility>

namespace fastmnist::bindings {
namespace {

constexpr std::align_val_t kAlignment{64};

// A DLPack tensor and, behind it, its numbers.
struct alignas(64) OwnTensor {
  DLManagedTensorVersioned managed;
  std::int64_t shape[Result::kMaxDimensions];
  std::int64_t strides[Result::kMaxDimensions];

  std::byte* data() { return reinterpret_cast<std::byte*>(this + 1); }
};

void delete_own(DLManagedTensorVersioned* managed) {
  ::operator delete(managed->manager_ctx, kAlignment);
}

DLTensor describe(Element element, std::span<const std::int64_t> shape) {
  DLTensor tensor{};
  tensor.device = {kDLCPU, 0};
  tensor.ndim = static_cast<std::int32_t>(shape.size());
  tensor.dtype =
      element == Element::kInt64 ? DLDataType{kDLInt, 64, 1} : DLDataType{kDLFloat, 32, 1};
  tensor.shape = const_cast<std::int64_t*>(shape.data());
  return tensor;
}

std::int64_t count_of(std::span<const std::int64_t> shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  return count;
}

DLManagedTensorVersioned* own_tensor(Element element, std::span<const std::int64_t> shape) {
  const std::int64_t size = element == Element::kInt64 ? 8 : 4;
  void* memory = ::operator new(
      sizeof(OwnTensor) + static_cast<std::size_t>(count_of(shape) * size), kAlignment);
  auto* own = new (memory) OwnTensor{};
  std::int64_t stride = 1;
  for (std::size_t i = shape.size(); i-- > 0; stride *= shape[i]) {
    own->shape[i] = shape[i];
    own->strides[i] = stride;
  }
  own->managed.version = {DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION};
  own->managed.manager_ctx = memory;
  own->managed.deleter = delete_own;
  own->managed.dl_tensor = describe(element, {own->shape, shape.size()});
  own->managed.dl_tensor.strides = own->strides;
  own->managed.dl_tensor.data = own->data();
  return &own->managed;
}

void set_python_error(void*, const char* kind, const char* message) {
  const py::gil_scoped_acquire gil;
  PyErr_Format(PyExc_RuntimeError, "%s: %s", kind, message);
}

}  // namespace

Result::~Result() {
  Py_XDECREF(array_);
  if (managed_ != nullptr && managed_->deleter != nullptr) managed_->deleter(managed_);
}

void* Result::allocate(Element element, std::span<const std::int64_t> shape) {
  return library_ == Library::kNumpy ? allocate_numpy(element, shape)
                                     : allocate_torch(element, shape);
}

void* Result::allocate_numpy(Element element, std::span<const std::int64_t> shape) {
  static_assert(sizeof(Py_intptr_t) == sizeof(std::int64_t));
  const auto& numpy = py::detail::npy_api::get();
  static PyObject* const float32 = numpy.PyArray_DescrFromType_(numpy.NPY_FLOAT_);
  static PyObject* const int64 = numpy.PyArray_DescrFromType_(numpy.NPY_INT64_);
  PyObject* type = element == Element::kInt64 ? int64 : float32;
  Py_INCREF(type);  // the next call takes it
  array_ = numpy.PyArray_NewFromDescr_(numpy.PyArray_Type_, type, static_cast<int>(shape.size()),
                                       reinterpret_cast<const Py_intptr_t*>(shape.data()), nullptr,
                                       nullptr, 0, nullptr);
  if (array_ == nullptr) throw py::error_already_set();
  return py::detail::array_proxy(array_)->data;
}

void* Result::allocate_torch(Element element, std::span<const std::int64_t> shape) {
  const DLPackExchangeAPI* api = find_torch_type(Py_TYPE(like_))->api;
  if (!mode_watches()) {
    managed_ = own_tensor(element, shape);
    return managed_->dl_tensor.data;
  }
  ran_python_ = true;
  DLTensor prototype = describe(element, shape);
  if (api->managed_tensor_allocator(&prototype, &managed_, nullptr, set_python_error) != 0)
    throw py::error_already_set();
  if (managed_->dl_tensor.data == nullptr && count_of(shape) > 0)  // a FakeTensor
    throw std::runtime_error("torch returned a tensor without data");
  return static_cast<std::byte*>(managed_->dl_tensor.data) + managed_->dl_tensor.byte_offset;
}

PyObject* Result::release() {
  if (library_ == Library::kNumpy) return std::exchange(array_, nullptr);
  const DLPackExchangeAPI* api = find_torch_type(Py_TYPE(like_))->api;
  void* object = nullptr;
  // If this fails, torch may have deleted the memory already or not: it is leaked.
  if (api->managed_tensor_to_py_object_no_sync(std::exchange(managed_, nullptr), &object) != 0)
    throw py::error_already_set();
  return static_cast<PyObject*>(object);
}

}  // namespace fastmnist::bindings
