// The native half of fastmnist.CompiledModel: one call, rows in, outputs out. What it does; how
// Python reaches it is model_type.cpp's.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <utility>

#include "bindings/ports.h"
#include "pack/graph.h"
#include "pack/network.h"
#include "runtime/scratch.h"

namespace fastmnist::bindings {

namespace py = pybind11;

// A packed network or graph that owns its bytes (64-byte aligned) and runs on NumPy arrays and
// torch tensors. Immutable after construction, so many threads may call one model at once.
// Arguments are borrowed, results are new references, errors are C++ exceptions.
class Model {
 public:
  // inputs, outputs, structure: of graphs (ports.h).
  Model(std::span<const std::byte> packed, const py::object& inputs, const py::object& outputs,
        const py::object& structure);
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const Ports& ports() const { return ports_; }
  // Before the first call.
  void take_out_by_name(bool only) { ports_.positional_out = !only; }
  // [N, ...] of uint8 pixels or float32, one for each input -> float32 [N, outputs], in `out` (a
  // tuple, where there are several) if it is not None.
  PyObject* call(PyObject* const* xs, PyObject* out) const;
  // The index of the largest output: int64 [N], in `out` if it is not None.
  PyObject* predict(PyObject* const* xs, PyObject* out) const;

  // Layer i as canonical arrays: int8 weight [outputs, inputs], weight_scale, bias [outputs].
  PyObject* unpack(std::int64_t i) const;
  PyObject* unpack_floats(std::int64_t step) const;

  std::int64_t nbytes() const { return bytes_; }
  std::int64_t inputs() const { return ports_.inputs[0].size; }
  std::int64_t outputs() const { return ports_.outputs[0].size; }
  bool takes_pixels() const;

 private:
  struct Input;
  struct Inputs;
  struct Out;
  enum class Task { kOutputs, kIndexes };
  PyObject* run(Task task, const OutputPort* ports, std::size_t count, PyObject* const* xs,
                PyObject* out) const;
  void check_pixels(Inputs& inputs) const;
  void compute(Task task, Inputs& inputs, std::span<void* const> results) const;
  std::pair<const NetworkView*, std::int64_t> layer_at(std::int64_t i) const;
  std::int64_t layers() const;

  struct Freed {
    void operator()(std::byte* p) const { ::operator delete (p, std::align_val_t{64}); }
  };
  std::int64_t bytes_;
  std::unique_ptr<std::byte[], Freed> storage_;
  NetworkView network_;  // where there is no graph
  std::optional<GraphView> graph_;
  Ports ports_;
  OutputPort index_{};        // what predict gives
  std::int64_t classes_ = 0;  // of the one output that predict goes by
  std::int64_t rows_that_keep_gil_;
  mutable ScratchPool scratch_;
  mutable ScratchPool logits_;  // of predict
};

}  // namespace fastmnist::bindings
