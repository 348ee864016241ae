// The native half of fastmnist.CompiledModel: one call, rows in, logits out. What it does; how
// Python reaches it is model_type.cpp's.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>

#include "pack/network.h"
#include "runtime/scratch.h"

namespace fastmnist::bindings {

namespace py = pybind11;

// A packed network that owns its bytes (64-byte aligned) and runs on NumPy arrays and torch
// tensors. Immutable after construction, so many threads may call one model at once. Arguments are
// borrowed, results are new references, errors are C++ exceptions.
class Model {
 public:
  explicit Model(std::span<const std::byte> packed);
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // [N, ...] of uint8 pixels or float32 -> float32 [N, outputs], in `out` if it is not None.
  PyObject* call(PyObject* x, PyObject* out) const;
  // The index of the largest output: int64 [N], in `out` if it is not None.
  PyObject* predict(PyObject* x, PyObject* out) const;

  // Layer i as canonical arrays: int8 weight [outputs, inputs], weight_scale, bias [outputs].
  PyObject* unpack(std::int64_t i) const;

  std::int64_t nbytes() const { return bytes_; }
  std::int64_t inputs() const { return view_.inputs(); }
  std::int64_t outputs() const { return view_.outputs(); }
  bool takes_pixels() const { return view_.pixels() != PixelKind::kNone; }

 private:
  struct Input;
  struct Task;
  PyObject* run(const Task& task, PyObject* x, PyObject* out) const;
  void compute(const Task& task, const Input& x, void* result) const;

  struct Freed {
    void operator()(std::byte* p) const { ::operator delete (p, std::align_val_t{64}); }
  };
  std::int64_t bytes_;
  std::unique_ptr<std::byte[], Freed> storage_;
  NetworkView view_;
  std::int64_t rows_that_keep_gil_;
  mutable ScratchPool scratch_;
  mutable ScratchPool logits_;  // of predict
};

}  // namespace fastmnist::bindings
