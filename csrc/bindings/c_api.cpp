// include/fastmnist/fastmnist.h over runtime/loaded_model.h: pointers checked, errors kept as text.
//
// Compiled with exceptions, which the rest of the library neither throws nor catches: containers of
// small things may ask for memory that there is not.
#include <exception>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "core/threads.h"
#include "fastmnist/fastmnist.h"
#include "files/model_file.h"
#include "files/saved_model.h"
#include "kernels/tables.h"
#include "runtime/loaded_model.h"

using fastmnist::LoadedModel;
using fastmnist::ModelFile;
using fastmnist::Result;
using fastmnist::Status;

struct fastmnist_file {
  std::unique_ptr<ModelFile> file;
  std::string description;  // with a 0 behind it
};

struct fastmnist_model {
  std::unique_ptr<LoadedModel> model;
};

namespace {

std::string& last_error() {
  thread_local std::string text;
  return text;
}

fastmnist_status keep(const Status& status) {
  if (status.ok()) return FASTMNIST_OK;
  last_error() = status.text();
  if (status.is_out_of_memory()) return FASTMNIST_NO_MEMORY;
  return status.is_not_found() ? FASTMNIST_NOT_FOUND : FASTMNIST_INVALID;
}

template <typename Function>
fastmnist_status guarded(const Function& function) {
  try {
    return keep(function());
  } catch (const std::bad_alloc&) {
    return keep(Status::out_of_memory());
  } catch (const std::exception& error) {
    return keep(Status::invalid(error.what()));
  }
}

Status null(const char* argument) { return Status::invalid(argument, "a pointer", "NULL"); }

Result<std::unique_ptr<LoadedModel>> loaded(const ModelFile& file, const char* name,
                                            const fastmnist_options* given) {
  fastmnist_options options{};
  if (given != nullptr) {
    if (given->size != sizeof options)
      return Status::invalid("options", "size " + std::to_string(sizeof options),
                             std::to_string(given->size) + ": set it to sizeof(fastmnist_options)");
    options = *given;
  }
  if (options.plan < FASTMNIST_PLAN_STORED || options.plan > FASTMNIST_PLAN_MEASURED)
    return Status::invalid("plan", "one of enum fastmnist_plan",
                           std::to_string(static_cast<int>(options.plan)));
  Result<std::size_t> which = file.find(name != nullptr ? name : "");
  if (!which.ok()) return std::move(which).status();
  Result<fastmnist::SavedGraph> saved = fastmnist::read_model(file, *which);
  if (!saved.ok()) return std::move(saved).status();
  return LoadedModel::make(
      *std::move(saved), static_cast<fastmnist::PlanBy>(options.plan),
      options.measurements != nullptr ? options.measurements : fastmnist::default_measurements());
}

template <typename Open>
fastmnist_status open_with(fastmnist_file** file, const Open& open) {
  if (file == nullptr) return keep(null("file"));
  *file = nullptr;
  return guarded([&]() -> Status {
    Result<std::unique_ptr<ModelFile>> opened = open();
    if (!opened.ok()) return std::move(opened).status();
    auto made = std::make_unique<fastmnist_file>();
    made->file = *std::move(opened);
    made->description = made->file->content();
    *file = made.release();
    return {};
  });
}

template <typename Open>
fastmnist_status load_with(const char* name, const fastmnist_options* options,
                           fastmnist_model** model, const Open& open) {
  if (model == nullptr) return keep(null("model"));
  *model = nullptr;
  return guarded([&]() -> Status {
    Result<std::unique_ptr<ModelFile>> file = open();
    if (!file.ok()) return std::move(file).status();
    Result<std::unique_ptr<LoadedModel>> made = loaded(**file, name, options);
    if (!made.ok()) return std::move(made).status();
    *model = new fastmnist_model{*std::move(made)};
    return {};
  });
}

Result<std::unique_ptr<ModelFile>> open_path(const char* path) {
  if (path == nullptr) return null("path");
  return ModelFile::open(path);
}

Result<std::unique_ptr<ModelFile>> open_bytes(const void* bytes, std::size_t size) {
  if (bytes == nullptr) return null("bytes");
  return ModelFile::open(std::span(static_cast<const std::byte*>(bytes), size));
}

// The rows of a call, as the library counts them; more than it can count is refused there.
std::int64_t counted(std::size_t rows) {
  constexpr auto kMost = static_cast<std::size_t>(std::numeric_limits<std::int64_t>::max());
  return rows > kMost ? std::numeric_limits<std::int64_t>::max() : static_cast<std::int64_t>(rows);
}

fastmnist_status predict(const fastmnist_model* model, fastmnist::RowType type, const void* values,
                         std::size_t rows, float* outputs) {
  return guarded([&]() -> Status {
    if (model == nullptr) return null("model");
    const auto& given = model->model->outputs();
    if (given.size() != 1 || given[0].indexes)
      return Status::invalid("model", "one with one output of numbers",
                             "another: call fastmnist_run");
    const fastmnist::GraphInput input[] = {{type, values}};
    void* const output[] = {outputs};
    return model->model->run(input, counted(rows), output);
  });
}

fastmnist_status classify(const fastmnist_model* model, fastmnist::RowType type, const void* values,
                          std::size_t rows, std::int64_t* classes) {
  return guarded([&]() -> Status {
    if (model == nullptr) return null("model");
    const fastmnist::GraphInput input[] = {{type, values}};
    return model->model->predict(input, counted(rows), classes);
  });
}

const LoadedModel::Input* input_of(const fastmnist_model* model, std::size_t i) {
  const bool there = model != nullptr && i < model->model->inputs().size();
  return there ? &model->model->inputs()[i] : nullptr;
}

const LoadedModel::Output* output_of(const fastmnist_model* model, std::size_t i) {
  const bool there = model != nullptr && i < model->model->outputs().size();
  return there ? &model->model->outputs()[i] : nullptr;
}

std::size_t copy_shape(const fastmnist::Shape& from, std::size_t* shape, std::size_t most) {
  for (std::size_t i = 0; shape != nullptr && i < from.size() && i < most; ++i)
    shape[i] = static_cast<std::size_t>(from[i]);
  return from.size();
}

}  // namespace

extern "C" {

const char* fastmnist_version(void) { return FASTMNIST_VERSION; }
int fastmnist_abi(void) { return FASTMNIST_ABI; }

const char* fastmnist_isa(void) {
  const Result<const fastmnist::KernelTable*> kernels = fastmnist::active_kernels();
  if (kernels.ok()) return (*kernels)->name;
  keep(kernels.status());
  return nullptr;
}

const char* fastmnist_last_error(void) { return last_error().c_str(); }

fastmnist_status fastmnist_set_num_threads(int threads) {
  return guarded([&] { return fastmnist::set_num_threads(threads); });
}

int fastmnist_num_threads(void) {
  const Result<int> threads = fastmnist::num_threads();
  if (!threads.ok()) keep(threads.status());
  return threads.ok() ? *threads : 0;
}

fastmnist_status fastmnist_open(const char* path, fastmnist_file** file) {
  return open_with(file, [&] { return open_path(path); });
}

fastmnist_status fastmnist_open_memory(const void* bytes, size_t size, fastmnist_file** file) {
  return open_with(file, [&] { return open_bytes(bytes, size); });
}

void fastmnist_close(fastmnist_file* file) { delete file; }

size_t fastmnist_models(const fastmnist_file* file) {
  return file != nullptr ? file->file->models() : 0;
}

const char* fastmnist_model_name(const fastmnist_file* file, size_t i) {
  return i < fastmnist_models(file) ? file->file->c_name(i) : nullptr;
}

const char* fastmnist_description(const fastmnist_file* file) {
  return file != nullptr ? file->description.c_str() : nullptr;
}

fastmnist_status fastmnist_load(const char* path, const char* name,
                                const fastmnist_options* options, fastmnist_model** model) {
  return load_with(name, options, model, [&] { return open_path(path); });
}

fastmnist_status fastmnist_load_memory(const void* bytes, size_t size, const char* name,
                                       const fastmnist_options* options, fastmnist_model** model) {
  return load_with(name, options, model, [&] { return open_bytes(bytes, size); });
}

fastmnist_status fastmnist_load_from(const fastmnist_file* file, const char* name,
                                     const fastmnist_options* options, fastmnist_model** model) {
  if (model == nullptr) return keep(null("model"));
  *model = nullptr;
  return guarded([&]() -> Status {
    if (file == nullptr) return null("file");
    Result<std::unique_ptr<LoadedModel>> made = loaded(*file->file, name, options);
    if (!made.ok()) return std::move(made).status();
    *model = new fastmnist_model{*std::move(made)};
    return {};
  });
}

void fastmnist_free(fastmnist_model* model) { delete model; }

size_t fastmnist_bytes(const fastmnist_model* model) {
  return model != nullptr ? model->model->bytes() : 0;
}

size_t fastmnist_inputs(const fastmnist_model* model) {
  return model != nullptr ? model->model->inputs().size() : 0;
}

size_t fastmnist_outputs(const fastmnist_model* model) {
  return model != nullptr ? model->model->outputs().size() : 0;
}

const char* fastmnist_input_name(const fastmnist_model* model, size_t i) {
  const LoadedModel::Input* input = input_of(model, i);
  return input != nullptr ? input->name.c_str() : nullptr;
}

const char* fastmnist_output_name(const fastmnist_model* model, size_t i) {
  const LoadedModel::Output* output = output_of(model, i);
  return output != nullptr ? output->name.c_str() : nullptr;
}

size_t fastmnist_input_size(const fastmnist_model* model, size_t i) {
  const LoadedModel::Input* input = input_of(model, i);
  return input != nullptr ? static_cast<size_t>(input->size) : 0;
}

size_t fastmnist_output_size(const fastmnist_model* model, size_t i) {
  const LoadedModel::Output* output = output_of(model, i);
  return output != nullptr ? static_cast<size_t>(output->size) : 0;
}

size_t fastmnist_input_shape(const fastmnist_model* model, size_t i, size_t* shape, size_t most) {
  const LoadedModel::Input* input = input_of(model, i);
  return input != nullptr ? copy_shape(input->shape, shape, most) : 0;
}

size_t fastmnist_output_shape(const fastmnist_model* model, size_t i, size_t* shape, size_t most) {
  const LoadedModel::Output* output = output_of(model, i);
  return output != nullptr ? copy_shape(output->shape, shape, most) : 0;
}

int fastmnist_takes_pixels(const fastmnist_model* model, size_t i) {
  const LoadedModel::Input* input = input_of(model, i);
  return input != nullptr && input->pixels;
}

int fastmnist_gives_indexes(const fastmnist_model* model, size_t i) {
  const LoadedModel::Output* output = output_of(model, i);
  return output != nullptr && output->indexes;
}

fastmnist_status fastmnist_predict_u8(const fastmnist_model* model, const uint8_t* values,
                                      size_t rows, float* outputs) {
  return predict(model, fastmnist::RowType::kPixels, values, rows, outputs);
}

fastmnist_status fastmnist_predict_f32(const fastmnist_model* model, const float* values,
                                       size_t rows, float* outputs) {
  return predict(model, fastmnist::RowType::kFloat32, values, rows, outputs);
}

fastmnist_status fastmnist_classify_u8(const fastmnist_model* model, const uint8_t* values,
                                       size_t rows, int64_t* classes) {
  return classify(model, fastmnist::RowType::kPixels, values, rows, classes);
}

fastmnist_status fastmnist_classify_f32(const fastmnist_model* model, const float* values,
                                        size_t rows, int64_t* classes) {
  return classify(model, fastmnist::RowType::kFloat32, values, rows, classes);
}

fastmnist_status fastmnist_run(const fastmnist_model* model, const fastmnist_rows* inputs,
                               size_t input_count, size_t rows, void* const* outputs,
                               size_t output_count) {
  return guarded([&]() -> Status {
    if (model == nullptr) return null("model");
    if (inputs == nullptr) return null("inputs");
    if (outputs == nullptr) return null("outputs");
    std::vector<fastmnist::GraphInput> given;
    for (std::size_t i = 0; i < input_count && i <= model->model->inputs().size(); ++i) {
      if (inputs[i].type != FASTMNIST_FLOAT32 && inputs[i].type != FASTMNIST_PIXELS)
        return Status::invalid("type", "one of enum fastmnist_type",
                               std::to_string(static_cast<int>(inputs[i].type)));
      given.push_back({inputs[i].type == FASTMNIST_PIXELS ? fastmnist::RowType::kPixels
                                                          : fastmnist::RowType::kFloat32,
                       inputs[i].values});
    }
    return model->model->run(given, counted(rows), {outputs, output_count});
  });
}

}  // extern "C"
