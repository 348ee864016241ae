// What fm.save wrote: descriptions of models as JSON, and arrays by name. docs/format.md has it
// byte for byte.
//
//     container.h        tensors by name, numbers not read yet ──┐
//     short_forms.h      tensors in a shorter form to arrays     ├──► description and arrays of
//     compressed_file.h  or one coded stream, read at once     ──┘    each model
//
// Opening a plain file reads its header alone. An array is read when it is asked for, and only then
// is its checksum verified. What a description means is not known here (saved_model.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/export.h"
#include "core/status.h"
#include "files/array.h"
#include "files/container.h"
#include "files/json.h"

namespace fastmnist {

inline constexpr std::int64_t kFormat = 2;
// What a reader must understand to read a file that asks for it, in its field "features".
inline constexpr std::string_view kFeatures[] = {"sparse", "indexed", "checksums", "graph"};

class FASTMNIST_API ModelFile {
 public:
  static Result<std::unique_ptr<ModelFile>> open(const std::string& path);
  // The bytes must stay as they are as long as the file.
  static Result<std::unique_ptr<ModelFile>> open(std::span<const std::byte> bytes);

  std::int64_t format() const { return format_; }
  std::string_view content() const { return content_text_; }  // JSON
  JsonValue root() const { return content_.root(); }

  std::size_t models() const { return models_.size(); }
  std::string_view name(std::size_t model) const { return models_[model].name; }
  const char* c_name(std::size_t model) const { return models_[model].terminated.c_str(); }
  JsonValue description(std::size_t model) const { return models_[model].description; }
  // By its name; "" where there is one alone. not_found, or invalid where there are several.
  Result<std::size_t> find(std::string_view name) const;

  // Names of a model's arrays, in the file's order or that of the alphabet.
  std::vector<std::string_view> keys(std::size_t model) const;
  bool has(std::size_t model, std::string_view key) const;
  // Where memory is the caller's it may be a look at it.
  Result<Array> array(std::size_t model, std::string_view key) const;

 private:
  enum class Form : std::uint8_t { kDense, kSparse, kIndexed };
  struct Stored {
    Form form = Form::kDense;
    Shape shape;  // of a short form, in the description's words
    const Container::Place* place = nullptr;
    const Container::Place* parts[2] = {nullptr, nullptr};  // of a short form
    std::string_view names[2];                              // of places, for checksums
    Array read;                                             // of compressed files
  };
  struct Model {
    std::string_view name;
    std::string terminated;
    JsonValue description;
    std::map<std::string_view, Stored, std::less<>> arrays;
    std::vector<std::string_view> order;
    std::map<std::string_view, std::string_view> same;  // other names of arrays
    std::vector<std::string> keys;                      // of compressed files
  };

  static Result<std::unique_ptr<ModelFile>> open(Source source);
  Status read_all(Source source);
  Status read_plain(std::string_view metadata);
  Status read_compressed(const Container::Place& place);
  Status read_content();
  Status read_checksums();
  Status find_tensors(Model& model);
  Status find_short(Model& model, std::string_view field, Form form, std::string_view first,
                    std::string_view second);
  const Stored* stored(std::size_t model, std::string_view key) const;
  Result<Array> verified(std::string_view name, const Container::Place& place) const;

  Container container_;
  std::string_view content_text_;
  std::unique_ptr<char[]> own_text_;  // of compressed files, 0 behind it
  std::string plain_text_;
  Json content_;
  std::int64_t format_ = 0;
  std::vector<Model> models_;
  std::map<std::string_view, std::size_t, std::less<>> by_name_;
  std::map<std::string_view, std::uint32_t, std::less<>> checksums_;  // by tensor
};

}  // namespace fastmnist
