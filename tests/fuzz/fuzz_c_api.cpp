// The public C functions in an order, and with arguments, that the input says.
//
//     1 byte   how many calls, at most 31
//     2 each   which, and its argument
//     the rest a file
#include <string>

#include "models.h"

namespace {

// Names, and what is none.
const char* name_of(const fastmnist_file* file, std::uint8_t argument) {
  constexpr const char* kNames[] = {nullptr, "", "model", "int8", "a name that no model has"};
  if (argument < std::size(kNames)) return kNames[argument];
  return file != nullptr ? fastmnist_model_name(file, argument - std::size(kNames)) : nullptr;
}

void describe(const fastmnist_model* model, std::size_t i) {
  std::size_t shape[8];
  std::size_t none = 0;
  (void)fastmnist_input_name(model, i);
  (void)fastmnist_input_size(model, i);
  (void)fastmnist_output_size(model, i);
  (void)fastmnist_input_shape(model, i, shape, 8);
  (void)fastmnist_output_shape(model, i, shape, i % 9);
  (void)fastmnist_input_shape(model, i, nullptr, none);
  (void)fastmnist_takes_pixels(model, i);
  (void)fastmnist_gives_indexes(model, i);
  (void)fastmnist_bytes(model);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Source source({data, size});
  struct Call {
    int which;
    std::uint8_t argument;
  };
  std::vector<Call> calls(source.byte() % 32);
  for (Call& call : calls) call = {source.byte() % 8, source.byte()};
  const fuzz::Bytes bytes = source.rest();
  fastmnist_file* file = nullptr;
  fastmnist_model* model = nullptr;
  for (const auto& [which, argument] : calls) {
    fastmnist_options options = fuzz::fixed_plan();
    if (which == 0) {
      fastmnist_close(file);
      file = nullptr;
      (void)fastmnist_open_memory(bytes.data(), bytes.size(), &file);
    } else if (which == 1 && file != nullptr) {
      fastmnist_free(model);
      model = nullptr;
      (void)fastmnist_load_from(file, name_of(file, argument), &options, &model);
    } else if (which == 2) {
      fastmnist_free(model);
      model = nullptr;
      if (argument % 7 == 0) options.size = argument;  // of an earlier version, or a later one
      (void)fastmnist_load_memory(bytes.data(), bytes.size(), name_of(file, argument % 16),
                                  &options, &model);
    } else if (which == 3 && model != nullptr) {
      fuzz::run_model(model, argument % 6);
    } else if (which == 4 && model != nullptr) {
      describe(model, argument == 255 ? SIZE_MAX : argument % 4u);
    } else if (which == 5 && file != nullptr) {
      (void)std::string(fastmnist_description(file)).size();
      (void)fastmnist_model_name(file, argument == 255 ? SIZE_MAX : argument);
    } else if (which == 6 && model != nullptr) {
      // As many arrays as a model has not; and no rows at all.
      const std::size_t inputs = fastmnist_inputs(model), outputs = fastmnist_outputs(model);
      const std::vector<fastmnist_rows> none(inputs + 1, {FASTMNIST_FLOAT32, nullptr});
      const std::vector<void*> nowhere(outputs + 1, nullptr);
      if (fastmnist_run(model, none.data(), inputs + 1, 1, nowhere.data(), outputs) == FASTMNIST_OK)
        std::abort();
      if (fastmnist_run(model, none.data(), inputs, 1, nowhere.data(), outputs + 1) == FASTMNIST_OK)
        std::abort();
      (void)fastmnist_run(model, none.data(), inputs, 0, nowhere.data(), outputs);
    } else {
      (void)std::string(fastmnist_last_error()).size();
      fastmnist_model* none = nullptr;
      if (fastmnist_load("", nullptr, nullptr, &none) == FASTMNIST_OK) std::abort();
    }
  }
  // In either order: a model does not need its file.
  if (size % 2 == 0) fastmnist_close(file);
  fastmnist_free(model);
  if (size % 2 != 0) fastmnist_close(file);
  return 0;
}
