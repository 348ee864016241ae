// Fields and tensors of one model, checked before use. The first thing that is not as it should be
// is kept, and everything after it gives nothing, so that readers need ask once, at their end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/status.h"
#include "core/types.h"
#include "files/array.h"
#include "files/json.h"
#include "files/model_file.h"
#include "files/saved_model.h"

namespace fastmnist {

class Reading {
 public:
  Reading(const ModelFile& file, std::size_t model) : file_(file), model_(model) {}
  Reading(const Reading&) = delete;
  Reading& operator=(const Reading&) = delete;

  bool ok() const { return status_.ok(); }
  Status take_status() { return std::move(status_); }
  void fail(Status status) {
    if (ok()) status_ = std::move(status);
  }
  void invalid(const std::string& argument, const std::string& expected, const std::string& got) {
    fail(Status::invalid(argument, expected, got));
  }

  std::int64_t format() const { return file_.format(); }
  JsonValue description() const { return file_.description(model_); }

  // A member that must be there, of that kind.
  JsonValue field(JsonValue record, std::string_view name, JsonKind kind);
  std::string text(JsonValue record, std::string_view name);
  bool truth(JsonValue record, std::string_view name);
  // An index, from 0 on.
  std::int64_t index(JsonValue value, std::string_view name);
  std::int64_t index_field(JsonValue record, std::string_view name);
  // A list of 1 to `most`.
  JsonValue some(JsonValue record, std::string_view name, std::size_t most);

  // "inf" and "-inf" stand for infinity.
  Clamp clamp(JsonValue record);
  // None where the record has no field "function".
  Activation function(JsonValue record);
  std::optional<SavedPixels> pixels(JsonValue value);
  // A letter for each of so many inputs, with how often in a row; none where it is not told.
  std::vector<std::uint8_t> zeros(JsonValue record, std::int64_t inputs);

  bool has(const std::string& key) const { return file_.has(model_, key); }
  // -1 in the shape: any size.
  Array tensor(const std::string& key, Dtype dtype, const Shape& shape);
  // Of any shape.
  Array floats(const std::string& key);
  float number(const std::string& key);

 private:
  float bound(JsonValue value);

  const ModelFile& file_;
  std::size_t model_;
  Status status_;
};

}  // namespace fastmnist
