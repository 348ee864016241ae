// Models of a file, run on few rows by the public C functions.
#pragma once

#include "fastmnist/fastmnist.h"
#include "fuzz.h"

namespace fuzz {

// A model of more values a row is not run.
inline constexpr std::size_t kMostValues = 1 << 16;

inline void run_model(const fastmnist_model* model, std::size_t rows) {
  std::vector<std::vector<float>> floats;
  std::vector<std::vector<std::uint8_t>> pixels;
  std::vector<fastmnist_rows> inputs;
  for (std::size_t i = 0; i < fastmnist_inputs(model); ++i) {
    const std::size_t values = fastmnist_input_size(model, i);
    if (values > kMostValues) return;
    floats.push_back(float_rows(rows * values));
    pixels.push_back(pixel_rows(rows * values));
    if (fastmnist_takes_pixels(model, i) != 0)
      inputs.push_back({FASTMNIST_PIXELS, pixels.back().data()});
    else
      inputs.push_back({FASTMNIST_FLOAT32, floats.back().data()});
  }
  std::vector<std::vector<std::int64_t>> memory;
  std::vector<void*> outputs;
  for (std::size_t i = 0; i < fastmnist_outputs(model); ++i) {
    const std::size_t values = fastmnist_output_size(model, i);
    if (values > kMostValues) return;
    memory.emplace_back(fastmnist_gives_indexes(model, i) != 0 ? rows * values
                                                               : (rows * values + 1) / 2);
    outputs.push_back(memory.back().data());
  }
  (void)fastmnist_run(model, inputs.data(), inputs.size(), rows, outputs.data(), outputs.size());
  if (inputs.size() != 1 || outputs.size() != 1) return;
  std::vector<std::int64_t> classes(rows);
  std::vector<float> logits(rows * fastmnist_output_size(model, 0));
  (void)fastmnist_predict_f32(model, floats[0].data(), rows, logits.data());
  (void)fastmnist_predict_u8(model, pixels[0].data(), rows, logits.data());
  (void)fastmnist_classify_f32(model, floats[0].data(), rows, classes.data());
  (void)fastmnist_classify_u8(model, pixels[0].data(), rows, classes.data());
}

inline fastmnist_options fixed_plan() {
  fastmnist_options options{};
  options.size = sizeof options;
  options.plan = FASTMNIST_PLAN_FIXED;
  return options;
}

// Opens a file, and loads and runs each model in it.
inline void run_file(Bytes bytes) {
  fastmnist_file* file = nullptr;
  if (fastmnist_open_memory(bytes.data(), bytes.size(), &file) != FASTMNIST_OK) {
    if (file != nullptr || fastmnist_last_error()[0] == '\0') std::abort();
    return;
  }
  if (fastmnist_description(file) == nullptr) std::abort();
  const fastmnist_options options = fixed_plan();
  for (std::size_t i = 0; i < fastmnist_models(file); ++i) {
    fastmnist_model* model = nullptr;
    if (fastmnist_load_from(file, fastmnist_model_name(file, i), &options, &model) == FASTMNIST_OK)
      run_model(model, 3);
    fastmnist_free(model);
  }
  fastmnist_close(file);
}

}  // namespace fuzz
