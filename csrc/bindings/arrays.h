// NumPy arrays and torch tensors as plain memory, without importing either's C API.
//
// A plain ndarray is read through its C struct: the buffer protocol takes longer and protects no
// better, as NumPy does not count exports. A torch tensor is read through DLPack's exchange API
// (torch_tensor.h). Neither copies nor allocates. What DLPack reports wrongly is refused: null data
// with elements (FakeTensor, wrapper subclasses), negative views, other devices. Everything a view
// cannot take as it is (other dtypes, strides) goes through fastmnist._inputs, in Python, which
// converts it or raises the error that a user should read.
//
// From taking a view to its last use no Python may run: it could free the memory. So what may run
// Python comes first, or last.
#pragma once

#include <pybind11/pybind11.h>

#include <array>
#include <cstdint>
#include <string>

#include "bindings/torch_tensor.h"

namespace fastmnist::bindings {

namespace py = pybind11;

enum class Library { kNumpy, kTorch };
enum class Element { kFloat32, kUint8, kInt64, kOther };

// A view of an array, which must outlive it. Holds the buffer where one was exported.
class ArrayView {
 public:
  static constexpr int kMaxDimensions = 16;

  ArrayView() = default;
  ArrayView(const ArrayView&) = delete;
  ArrayView& operator=(const ArrayView&) = delete;
  ~ArrayView() {
    if (buffer_.obj != nullptr) PyBuffer_Release(&buffer_);
  }

  // Takes a plain ndarray or tensor. With `ask` a tensor is asked first whether it is a negative
  // view, which may run Python. False, without a Python error, where it cannot be taken.
  bool read(PyObject* object, bool ask = true);
  // Takes anything writable, without asking. Runs no Python where is_plain(object).
  bool write(PyObject* object);

  Library library() const { return library_; }
  Element element() const { return element_; }
  int dimensions() const { return dimensions_; }
  std::int64_t size(int i) const { return shape_[static_cast<std::size_t>(i)]; }
  std::int64_t count() const;  // elements
  std::int64_t bytes() const;  // of a float32, uint8 or int64 array
  bool contiguous() const { return contiguous_; }
  void* data() const { return data_; }
  std::string shape_text() const;

 private:
  bool from_numpy(PyObject* array);
  bool from_buffer(PyObject* object);
  bool from_dlpack(PyObject* tensor, const DLPackExchangeAPI* api);
  bool aligned() const;

  Library library_ = Library::kNumpy;
  Element element_ = Element::kOther;
  int dimensions_ = 0;
  bool contiguous_ = false;
  void* data_ = nullptr;
  Py_buffer buffer_{};                              // buffer_.obj is null where there is none
  std::array<std::int64_t, kMaxDimensions> shape_;  // the first `dimensions_` of them
};

// Whether `write` takes the object (or refuses it) without running Python.
bool is_plain(PyObject* object);

// Whether a torch tensor must not be written to behind torch's back. May run Python.
bool refuses_writing(PyObject* object);

}  // namespace fastmnist::bindings
