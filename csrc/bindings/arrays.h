// NumPy arrays and torch tensors as plain memory, without importing either's C API.
//
// NumPy speaks the buffer protocol; torch's tensors speak DLPack's C exchange API, a table of
// function pointers on their type (no allocation, some 50 ns). Neither copies. What the tables
// report wrongly is refused: null data with elements (FakeTensor, wrapper subclasses), negative
// views, other devices. Everything a view cannot take as it is (other dtypes, strides) goes through
// fastmnist._inputs, in Python, which converts it or raises the error that a user should read.
#pragma once

#include <pybind11/pybind11.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ATen/dlpack.h"

namespace fastmnist::bindings {

namespace py = pybind11;

enum class Library { kNumpy, kTorch };
enum class Element { kFloat32, kUint8, kInt64, kOther };

// A view of somebody's array. Holds the exporting buffer, where there is one, for its lifetime.
class ArrayView {
 public:
  static constexpr int kMaxDimensions = 16;

  // Empty where the object is no array, or one that cannot be read as it is.
  // With `ask` a torch tensor is asked whether it is a negative view, which may run Python;
  // without, no Python runs, so that views taken before stay valid.
  static std::optional<ArrayView> of(py::handle object, bool writable = false, bool ask = true);

  ArrayView(ArrayView&& other) noexcept;
  ArrayView& operator=(ArrayView&&) = delete;
  ~ArrayView();

  Library library() const { return library_; }
  Element element() const { return element_; }
  int dimensions() const { return dimensions_; }
  std::int64_t size(int i) const { return shape_[static_cast<std::size_t>(i)]; }
  std::int64_t count() const;  // elements
  bool contiguous() const { return contiguous_; }
  void* data() const { return data_; }
  std::string shape_text() const;

 private:
  ArrayView() = default;
  bool from_buffer(py::handle object, bool writable);
  bool from_dlpack(py::handle object, bool ask);

  Library library_ = Library::kNumpy;
  Element element_ = Element::kOther;
  int dimensions_ = 0;
  std::array<std::int64_t, kMaxDimensions> shape_{};
  bool contiguous_ = false;
  void* data_ = nullptr;
  Py_buffer buffer_{};  // buffer_.obj is null where there is none to release
};

// Whether a torch tensor must not be written to behind torch's back. May run Python.
bool refuses_writing(py::handle object);

// A new array of the library that `like` belongs to. The view of it is valid while `object` lives.
struct NewArray {
  py::object object;
  void* data;
};
NewArray new_array(py::handle like, Library library, Element element,
                   const std::vector<std::int64_t>& shape);

}  // namespace fastmnist::bindings
