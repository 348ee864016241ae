// A compressed file's one tensor: descriptions as text, then the arrays, all in one coded stream.
//
//     number, text, then model by model the arrays that the description's field "tensors" lists:
//
//     ["1.", 300, 784, "qhrn--"]          an int8 layer's: prefix, outputs, inputs, forms
//     ["norm.weight", "f4", "r", [300]]   any other: key, dtype, form, shape
//
// The forms' letters are in docs/format.md. Everything is read at once, in order; the stream
// refuses to give more than its bytes can hold before memory is taken.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/status.h"
#include "files/array.h"
#include "files/coded_stream.h"
#include "files/json.h"

namespace fastmnist {

struct NamedArray {
  std::string key;
  Array array;
};

class CompressedFile {
 public:
  // The bytes must live as long as this.
  static Result<CompressedFile> open(std::span<const std::byte> bytes);

  // The text, with a 0 behind it.
  std::pair<std::unique_ptr<char[]>, std::size_t> take_text() {
    return {std::move(text_), text_size_};
  }
  // The next model's arrays.
  Status read(JsonValue description, std::vector<NamedArray>& arrays);
  // Whether all was read, and is what was written.
  Status finish() { return stream_->finish(); }

 private:
  Status layer(const std::string& prefix, std::int64_t outputs, std::int64_t inputs,
               std::string_view forms, std::vector<NamedArray>& arrays);
  Result<Array> one(Dtype dtype, char form, const Shape& shape);
  Status records(Array& array, char form);

  std::unique_ptr<CodedReader> stream_;
  std::unique_ptr<char[]> text_;
  std::size_t text_size_ = 0;
};

}  // namespace fastmnist
