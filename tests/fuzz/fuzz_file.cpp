// Files of models: refused, or each model in them refused, or run.
#include "models.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fastmnist_file* file = nullptr;
  if (fastmnist_open_memory(data, size, &file) != FASTMNIST_OK) {
    if (file != nullptr || fastmnist_last_error()[0] == '\0') std::abort();
    return 0;
  }
  if (fastmnist_description(file) == nullptr) std::abort();
  const fastmnist_options options = fuzz::fixed_plan();
  for (std::size_t i = 0; i < fastmnist_models(file); ++i) {
    fastmnist_model* model = nullptr;
    if (fastmnist_load_from(file, fastmnist_model_name(file, i), &options, &model) == FASTMNIST_OK)
      fuzz::run_model(model, 3);
    fastmnist_free(model);
  }
  fastmnist_close(file);
  return 0;
}
