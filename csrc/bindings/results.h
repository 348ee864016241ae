// Memory for a result, and the array that it becomes: one allocation by us, plus what NumPy or
// torch need to describe it.
//
// NumPy makes an ndarray, which runs no Python. For torch the memory is ours, and a tensor is put
// around it when the numbers are there: half as long as letting torch allocate through DLPack. Only
// where a mode (FakeTensorMode) wants to see tensors that are made does torch allocate.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "bindings/arrays.h"

namespace fastmnist::bindings {

class Result {
 public:
  // `like`: the plain array or tensor whose library, and torch type, the result is to be of.
  Result(PyObject* like, Library library) : like_(like), library_(library) {}
  Result(const Result&) = delete;
  Result& operator=(const Result&) = delete;
  ~Result();

  static constexpr std::size_t kMaxDimensions = 8;
  // Runs Python only where it says so afterwards by `ran_python`.
  void* allocate(Element element, std::span<const std::int64_t> shape);
  bool ran_python() const { return ran_python_; }
  // A new reference. May run Python (it may collect garbage).
  PyObject* release();

 private:
  void* allocate_numpy(Element element, std::span<const std::int64_t> shape);
  void* allocate_torch(Element element, std::span<const std::int64_t> shape);

  PyObject* like_;
  Library library_;
  bool ran_python_ = false;
  PyObject* array_ = nullptr;                    // NumPy's
  DLManagedTensorVersioned* managed_ = nullptr;  // to become torch's
};

}  // namespace fastmnist::bindings
