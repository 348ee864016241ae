// fastmnist in C++17: classes that own what fastmnist.h hands out, and throw what it reports.
//
//     fastmnist::Model model("digits.safetensors", "int8");
//     std::vector<std::int64_t> classes = model.classify(pixels, rows);   // std::uint8_t [rows, 784]
//
// Everything is inline here and goes through the C functions, so it does not matter which compiler
// or standard the library was built with. What these mean says fastmnist.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "fastmnist/fastmnist.h"

namespace fastmnist {

// What fastmnist_last_error said. Lack of memory is std::bad_alloc.
class Error : public std::runtime_error {
 public:
  Error(fastmnist_status status, const std::string& text)
      : std::runtime_error(text), status_(status) {}
  fastmnist_status status() const { return status_; }

 private:
  fastmnist_status status_;
};

inline void check(fastmnist_status status) {
  if (status == FASTMNIST_NO_MEMORY) throw std::bad_alloc();
  if (status != FASTMNIST_OK) throw Error(status, fastmnist_last_error());
}

enum class Plan {
  kStored = FASTMNIST_PLAN_STORED,
  kFixed = FASTMNIST_PLAN_FIXED,
  kMeasured = FASTMNIST_PLAN_MEASURED
};

// A file that may hold several models.
class File {
 public:
  explicit File(const std::string& path) {
    fastmnist_file* file = nullptr;
    check(fastmnist_open(path.c_str(), &file));
    file_.reset(file);
  }
  // The bytes must outlive the file.
  File(const void* bytes, std::size_t size) {
    fastmnist_file* file = nullptr;
    check(fastmnist_open_memory(bytes, size, &file));
    file_.reset(file);
  }

  std::vector<std::string> models() const {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < fastmnist_models(get()); ++i)
      names.emplace_back(fastmnist_model_name(get(), i));
    return names;
  }
  std::string description() const {
    const char* text = fastmnist_description(get());
    return text != nullptr ? text : "";
  }
  const fastmnist_file* get() const { return file_.get(); }

 private:
  struct Close {
    void operator()(fastmnist_file* file) const { fastmnist_close(file); }
  };
  std::unique_ptr<fastmnist_file, Close> file_;
};

// A loaded model. Moved, not copied; const members may be called from many threads at once.
class Model {
 public:
  // Without a name: the file's only model.
  explicit Model(const std::string& path, const std::string& name = "", Plan plan = Plan::kStored)
      : Model(File(path), name, plan) {}
  Model(const void* bytes, std::size_t size, const std::string& name = "",
        Plan plan = Plan::kStored)
      : Model(File(bytes, size), name, plan) {}
  explicit Model(const File& file, const std::string& name = "", Plan plan = Plan::kStored) {
    fastmnist_options options{};
    options.size = sizeof options;
    options.plan = static_cast<fastmnist_plan>(plan);
    fastmnist_model* model = nullptr;
    check(fastmnist_load_from(file.get(), name.empty() ? nullptr : name.c_str(), &options, &model));
    model_.reset(model);
  }

  std::size_t input_size(std::size_t i = 0) const { return fastmnist_input_size(get(), i); }
  std::size_t output_size(std::size_t i = 0) const { return fastmnist_output_size(get(), i); }
  std::size_t inputs() const { return fastmnist_inputs(get()); }
  std::size_t outputs() const { return fastmnist_outputs(get()); }
  std::string input_name(std::size_t i = 0) const { return text(fastmnist_input_name(get(), i)); }
  std::string output_name(std::size_t i = 0) const { return text(fastmnist_output_name(get(), i)); }
  std::vector<std::size_t> input_shape(std::size_t i = 0) const {
    return shape(&fastmnist_input_shape, i);
  }
  std::vector<std::size_t> output_shape(std::size_t i = 0) const {
    return shape(&fastmnist_output_shape, i);
  }
  bool gives_indexes(std::size_t i = 0) const { return fastmnist_gives_indexes(get(), i) != 0; }
  bool takes_pixels(std::size_t i = 0) const { return fastmnist_takes_pixels(get(), i) != 0; }
  std::size_t bytes() const { return fastmnist_bytes(get()); }

  // Outputs, [rows, output_size()], into memory of the caller's.
  void predict(const std::uint8_t* pixels, std::size_t rows, float* outputs) const {
    check(fastmnist_predict_u8(get(), pixels, rows, outputs));
  }
  void predict(const float* values, std::size_t rows, float* outputs) const {
    check(fastmnist_predict_f32(get(), values, rows, outputs));
  }
  // The same, in new memory.
  template <typename Value>
  std::vector<float> predict(const Value* values, std::size_t rows) const {
    std::vector<float> outputs(rows * output_size());
    predict(values, rows, outputs.data());
    return outputs;
  }

  // The index of each row's largest output.
  void classify(const std::uint8_t* pixels, std::size_t rows, std::int64_t* classes) const {
    check(fastmnist_classify_u8(get(), pixels, rows, classes));
  }
  void classify(const float* values, std::size_t rows, std::int64_t* classes) const {
    check(fastmnist_classify_f32(get(), values, rows, classes));
  }
  template <typename Value>
  std::vector<std::int64_t> classify(const Value* values, std::size_t rows) const {
    std::vector<std::int64_t> classes(rows);
    classify(values, rows, classes.data());
    return classes;
  }

  // Of any model: an array for each input, and one for each output (float, or std::int64_t).
  void run(const std::vector<fastmnist_rows>& inputs, std::size_t rows,
           const std::vector<void*>& outputs) const {
    check(fastmnist_run(get(), inputs.data(), inputs.size(), rows, outputs.data(), outputs.size()));
  }

  const fastmnist_model* get() const { return model_.get(); }

 private:
  static std::string text(const char* given) { return given != nullptr ? given : ""; }
  template <typename Function>
  std::vector<std::size_t> shape(Function function, std::size_t i) const {
    std::vector<std::size_t> sizes(function(get(), i, nullptr, 0));
    function(get(), i, sizes.data(), sizes.size());
    return sizes;
  }

  struct Free {
    void operator()(fastmnist_model* model) const { fastmnist_free(model); }
  };
  std::unique_ptr<fastmnist_model, Free> model_;
};

}  // namespace fastmnist
