#include "run/models.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "run/readers/bytes.h"

namespace fastmnist::run {
namespace {

// Whether the library asks the system for files; where it does not, this program may.
#if defined(FASTMNIST_NO_OS)
constexpr bool kOpensFiles = false;
#else
constexpr bool kOpensFiles = true;
#endif

using Shape = std::vector<std::size_t>;
using ShapeFunction = std::size_t (*)(const fastmnist_model*, std::size_t, std::size_t*,
                                      std::size_t);

Shape shape_of(const fastmnist_model* model, std::size_t i, ShapeFunction function) {
  Shape shape(kMostDimensions);
  const std::size_t dimensions = function(model, i, shape.data(), shape.size());
  shape.resize(std::min(dimensions, shape.size()));
  return shape;
}

// How high and wide the images are that a model takes; nothing where it does not know: a list of
// 784 values may have been any image, but will have been square where it can have been.
Shape image_of(const Shape& input, std::size_t size) {
  if (input.size() >= 2) return {input.end()[-2], input.end()[-1]};
  const auto side = static_cast<std::size_t>(std::lround(std::sqrt(static_cast<double>(size))));
  return side * side == size ? Shape{side, side} : Shape{};
}

std::string quoted(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "'" : ", '") + name + "'";
  return text;
}

}  // namespace

Status last_error(fastmnist_status status, const std::string& where) {
  if (status == FASTMNIST_NO_MEMORY) return Status::out_of_memory();
  return Status::invalid(where + ": " + fastmnist_last_error());
}

Shape Model::input_shape(std::size_t i) const { return shape_of(get(), i, &fastmnist_input_shape); }

Shape Model::output_shape(std::size_t i) const {
  return shape_of(get(), i, &fastmnist_output_shape);
}

Status Model::check(const Rows& rows) const {
  const std::string who = "model '" + name_ + "'";
  if (fastmnist_inputs(get()) != 1 || fastmnist_outputs(get()) != 1)
    return Status::invalid(who, "one input and one output",
                           std::to_string(fastmnist_inputs(get())) + " and " +
                               std::to_string(fastmnist_outputs(get())) +
                               ": run it from C (fastmnist.h) or Python");
  const std::size_t size = fastmnist_input_size(get(), 0);
  const Shape input = input_shape(0), image = image_of(input, size);
  const bool fits =
      rows.size == size && (!rows.are_pictures || image.empty() || image == rows.shape);
  if (fits) return {};
  const std::string wanted = image.empty() ? std::to_string(size) + " values"
                                           : text_of(input.size() >= 2 ? input : image) + " values";
  return Status::invalid(
      rows.files[0], "rows of " + wanted + " for " + who,
      text_of(rows.shape) +
          (rows.are_pictures ? ": fastmnist.data.centred, in Python, makes a drawing into an image "
                               "as MNIST's were made"
                             : ""));
}

Status Model::classify(const Rows& rows, std::size_t first, std::size_t count,
                       std::int64_t* classes) const {
  const void* const values = rows.are_pixels ? static_cast<const void*>(rows.pixels(first))
                                             : static_cast<const void*>(rows.values(first));
  fastmnist_status status = FASTMNIST_OK;
  if (fastmnist_gives_indexes(get(), 0) != 0 && fastmnist_output_size(get(), 0) == 1) {
    // It ends in arg max itself.
    const fastmnist_rows input{rows.are_pixels ? FASTMNIST_PIXELS : FASTMNIST_FLOAT32, values};
    void* output = classes;
    status = fastmnist_run(get(), &input, 1, count, &output, 1);
  } else if (rows.are_pixels) {
    status = fastmnist_classify_u8(get(), rows.pixels(first), count, classes);
  } else {
    status = fastmnist_classify_f32(get(), rows.values(first), count, classes);
  }
  return status == FASTMNIST_OK ? Status() : last_error(status, "model '" + name_ + "'");
}

Result<ModelFile> ModelFile::open(const std::string& path) {
  ModelFile opened;
  fastmnist_file* file = nullptr;
  if (kOpensFiles) {
    const fastmnist_status status = fastmnist_open(path.c_str(), &file);
    if (status == FASTMNIST_NOT_FOUND)
      return Status::invalid(path + ": expected a file of fm.save, got no file");
    if (status != FASTMNIST_OK) return last_error(status, path);
  } else {
    Result<Bytes> bytes = read_bytes(path);
    if (bytes.status().is_out_of_memory()) return Status::out_of_memory();
    if (!bytes.ok()) return Status::invalid(path + ": " + bytes.status().text());
    opened.bytes_ = *std::move(bytes);
    const fastmnist_status status =
        fastmnist_open_memory(opened.bytes_.data(), opened.bytes_.size(), &file);
    if (status != FASTMNIST_OK) return last_error(status, path);
  }
  opened.file_.reset(file);
  return opened;
}

std::vector<std::string> ModelFile::names() const {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < fastmnist_models(file_.get()); ++i)
    names.emplace_back(fastmnist_model_name(file_.get(), i));
  return names;
}

Result<std::vector<std::string>> ModelFile::choose(const std::vector<std::string>& asked) const {
  const std::vector<std::string> there = names();
  const auto is_there = [&there](const std::string& name) {
    return std::find(there.begin(), there.end(), name) != there.end();
  };
  if (asked.empty()) {
    if (there.size() == 1) return there;
    return Status::invalid("--model", "one or more of " + quoted(there) + ", or all", "none");
  }
  std::vector<std::string> chosen;
  const auto add = [&chosen](const std::string& name) {
    if (std::find(chosen.begin(), chosen.end(), name) == chosen.end()) chosen.push_back(name);
  };
  for (const std::string& text : asked) {
    if (is_there(text)) {
      add(text);
      continue;
    }
    if (text == "all") {
      for (const std::string& name : there) add(name);
      continue;
    }
    for (std::size_t begin = 0; begin <= text.size();) {
      const std::size_t end = std::min(text.find(',', begin), text.size());
      const std::string name = text.substr(begin, end - begin);
      if (!is_there(name))
        return Status::invalid("--model", "one of " + quoted(there) + ", or all", "'" + name + "'");
      add(name);
      begin = end + 1;
    }
  }
  return chosen;
}

Result<Model> ModelFile::load(const std::string& name, fastmnist_plan plan) const {
  fastmnist_options options{};
  options.size = sizeof options;
  options.plan = plan;
  fastmnist_model* model = nullptr;
  const fastmnist_status status = fastmnist_load_from(file_.get(), name.c_str(), &options, &model);
  if (status == FASTMNIST_NO_MEMORY) return Status::out_of_memory();
  if (status != FASTMNIST_OK) return Status::invalid(fastmnist_last_error());  // names the model
  return Model(name, model);
}

}  // namespace fastmnist::run
