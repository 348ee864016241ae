// A saved model, packed and planned for this machine, ready to be called: what programs without
// Python hold.
//
//     files/saved_model.h ──► pack ──► plan (stored, by rule or measured) ──► run, predict
//
// One per model; any number of threads may call it at once. The saved numbers are freed as they are
// packed, so that the peak is the packed model and one saved one.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/export.h"
#include "core/status.h"
#include "files/saved_model.h"
#include "pack/graph.h"
#include "pack/network.h"
#include "runtime/graph_executor.h"
#include "runtime/rows.h"
#include "runtime/scratch.h"

namespace fastmnist {

// How kernels are chosen. It never changes an answer.
enum class PlanBy { kStored, kFixed, kMeasured };

class FASTMNIST_API LoadedModel {
 public:
  struct Input {
    std::string name;
    std::int64_t size = 0;  // values of a row
    Shape shape;            // of a row; none: any of so many values
    bool pixels = false;    // whether it may be given some
  };
  struct Output {
    std::string name;
    std::int64_t size = 0;
    Shape shape;
    bool indexes = false;  // int64, else float32
  };

  // `measurements`: the file of measured times, "" for none.
  static Result<std::unique_ptr<LoadedModel>> make(SavedGraph saved, PlanBy plan,
                                                   const std::string& measurements);

  const std::vector<Input>& inputs() const { return inputs_; }
  const std::vector<Output>& outputs() const { return outputs_; }
  std::size_t bytes() const { return bytes_; }
  // A network (pack/network.h), or a graph (pack/graph.h).
  std::span<const std::byte> packed() const { return {storage_.get(), bytes_}; }

  // An array for each input, of `rows` rows, and memory for each output. Refused, before anything
  // is written, for another number of arrays, pixels that an input cannot take, outputs that
  // overlap inputs or each other, and where there is no memory to work in.
  Status run(std::span<const GraphInput> inputs, std::int64_t rows,
             std::span<void* const> outputs) const;

  // The index of each row's largest output, the first of equals; of models with one output, of one
  // dimension and at least two values.
  Status predict(std::span<const GraphInput> inputs, std::int64_t rows, std::int64_t* index) const;

 private:
  struct Free {
    void operator()(std::byte* memory) const { ::operator delete (memory, std::align_val_t{64}); }
  };

  Status pack_as_network(SavedNetwork& network, PlanBy plan, const std::string& measurements);
  Status pack_as_graph(SavedGraph& saved, PlanBy plan, const std::string& measurements);
  Status keep(std::span<const std::byte> packed);
  Status check(std::span<const GraphInput> inputs, std::int64_t rows,
               std::span<void* const> outputs, std::int64_t values_a_row) const;

  std::unique_ptr<std::byte, Free> storage_;
  std::size_t bytes_ = 0;
  NetworkView network_;  // where there is no graph
  std::optional<GraphView> graph_;
  std::vector<Input> inputs_;
  std::vector<Output> outputs_;
  mutable ScratchPool scratch_;
  mutable ScratchPool logits_;
};

// Where Python keeps measured times: measurements.txt in the user's cache folder; "" where there is
// none.
FASTMNIST_API std::string default_measurements();

}  // namespace fastmnist
