// The native half of fastmnist.CompiledModel: one call, rows in, logits out.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "pack/network.h"
#include "runtime/scratch.h"

namespace fastmnist::bindings {

namespace py = pybind11;

// A packed network that owns its bytes (64-byte aligned) and runs on NumPy arrays and torch
// tensors. Immutable after construction, so many threads may call one model at once.
class Model {
 public:
  explicit Model(const py::buffer& packed);

  // [N, ...] of uint8 pixels or float32 -> float32 [N, outputs], in `out` if it is not None.
  py::object call(const py::object& x, const py::object& out) const;
  // The index of the largest output: int64 [N].
  py::object predict(const py::object& x) const;

  // Layer i as canonical arrays: int8 weight [outputs, inputs], weight_scale, bias [outputs].
  py::tuple unpack(std::int64_t i) const;

  std::int64_t nbytes() const { return bytes_; }
  std::int64_t inputs() const { return view().inputs(); }
  std::int64_t outputs() const { return view().outputs(); }
  bool takes_pixels() const { return view().pixels() != PixelKind::kNone; }

  // pybind11 allocates with these; zeroed memory is a model that says it was never initialized.
  static void* operator new(std::size_t size);
  static void operator delete(void* memory) { ::operator delete(memory); }

 private:
  const NetworkView& view() const;
  struct Freed {
    void operator()(std::byte* p) const { ::operator delete (p, std::align_val_t{64}); }
  };
  std::int64_t bytes_ = 0;
  std::unique_ptr<std::byte[], Freed> storage_;
  NetworkView view_;
  mutable ScratchPool pool_;  // locks by itself
};

void register_model(py::module_& module);

}  // namespace fastmnist::bindings
