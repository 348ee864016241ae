// What a model takes and gives, as Python names it: arrays by name, shapes without rows.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <string>
#include <vector>

#include "core/status.h"
#include "pack/graph.h"
#include "pack/network.h"

namespace fastmnist::bindings {

namespace py = pybind11;

// Arguments and results are kept in places of their own: a call allocates nothing for them.
inline constexpr std::size_t kMostPorts = 16;

struct InputPort {
  std::string name;
  std::int64_t size;                // values of a row
  std::vector<std::int64_t> shape;  // of a row; empty: any that has so many
};

struct OutputPort {
  std::int64_t size;
  std::vector<std::int64_t> shape;  // of a row
  bool indexes;                     // int64, else float32
};

struct Ports {
  std::vector<InputPort> inputs;
  std::vector<OutputPort> outputs;
  // What is made of the outputs: none (the single one), or a callable that takes them all.
  py::object structure = py::none();
  bool positional_out = true;  // behind the inputs; else by name only
};

Ports ports_of(const NetworkView& network);

// inputs: (name, shape or None) of each; outputs: the shape of each.
Ports ports_of(const GraphView& graph, const py::object& inputs, const py::object& outputs,
               const py::object& structure);

// Up to kMostPorts values that are made one by one, in place.
template <typename T>
class Few {
 public:
  Few() = default;
  Few(const Few&) = delete;
  Few& operator=(const Few&) = delete;
  ~Few() {
    while (count_ > 0) (*this)[--count_].~T();
  }
  template <typename... Arguments>
  T& add(Arguments&&... arguments) {
    T* made = new (storage_ + count_ * sizeof(T)) T(static_cast<Arguments&&>(arguments)...);
    ++count_;
    return *made;
  }
  T& operator[](std::size_t i) {
    return *std::launder(reinterpret_cast<T*>(storage_ + i * sizeof(T)));
  }
  std::size_t size() const { return count_; }

 private:
  alignas(T) std::byte storage_[kMostPorts * sizeof(T)];
  std::size_t count_ = 0;
};

}  // namespace fastmnist::bindings
