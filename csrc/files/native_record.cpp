#include "files/native_record.h"

#include <cmath>
#include <utility>

#include "core/activations.h"

namespace fastmnist {
namespace {

constexpr double kSeluScale = 1.0507009873554805;
constexpr double kSeluAlpha = 1.6732632423543772;

double number_of(Reading& reading, JsonValue arguments, std::string_view name) {
  return reading.field(arguments, name, JsonKind::kNumber).number();
}

// Rows have one dimension: the last one is -1, or 1 behind that of rows.
bool is_last(JsonValue arguments) {
  const std::optional<JsonValue> dim = arguments.find("dim");
  return dim && (dim->is_null() || dim->integer() == -1 || dim->integer() == 1);
}

Activation activation_of(Reading& reading, const std::string& name, const std::string& prefix,
                         JsonValue arguments) {
  const auto make = [&](Function function, double p0 = 0, double p1 = 0, double p2 = 0) {
    Result<Activation> made =
        checked_activation(static_cast<std::int64_t>(function), static_cast<float>(p0),
                           static_cast<float>(p1), static_cast<float>(p2));
    if (!made.ok()) reading.fail(std::move(made).status());
    return made.ok() ? *made : Activation{};
  };
  const auto number = [&](const char* argument) { return number_of(reading, arguments, argument); };
  if (name == "LeakyReLU") return make(Function::kLeakyRelu, number("negative_slope"));
  if (name == "PReLU") {
    const Array slope = reading.tensor(prefix + "weight", Dtype::kFloat32, {1});
    return make(Function::kLeakyRelu, reading.ok() ? double{*slope.as<float>()} : 0);
  }
  if (name == "ELU") return make(Function::kElu, 1, number("alpha"), 1);
  if (name == "CELU") {
    const double alpha = number("alpha");
    return make(Function::kElu, 1, alpha, 1 / alpha);
  }
  if (name == "SELU") return make(Function::kElu, kSeluScale, kSeluScale * kSeluAlpha, 1);
  if (name == "GELU")
    return make(reading.text(arguments, "approximate") == "tanh" ? Function::kGeluTanh
                                                                 : Function::kGelu);
  if (name == "Softplus") return make(Function::kSoftplus, number("beta"), number("threshold"));
  constexpr std::pair<std::string_view, Function> kPlain[] = {
      {"SiLU", Function::kSilu},
      {"Mish", Function::kMish},
      {"Hardswish", Function::kHardswish},
      {"Hardsigmoid", Function::kHardsigmoid},
      {"Sigmoid", Function::kSigmoid},
      {"Tanh", Function::kTanh},
      {"LogSigmoid", Function::kLogSigmoid},
      {"Softsign", Function::kSoftsign}};
  for (const auto& [known, function] : kPlain)
    if (name == known) return make(function);
  reading.invalid("class", "one of torch's activations or norms", "'" + name + "'");
  return {};
}

ChainStep layer_norm(Reading& reading, const std::string& prefix, JsonValue arguments) {
  ChainStep made;
  made.step.kind = StepKind::kLayerNorm;
  made.step.epsilon = static_cast<float>(number_of(reading, arguments, "eps"));
  const JsonValue over = reading.field(arguments, "normalized_shape", JsonKind::kArray);
  if (over.size() != 1) {
    reading.invalid("normalized_shape", "the features of a row", "several dimensions");
    return made;
  }
  const std::int64_t width = reading.index(*over.begin(), "normalized_shape");
  made.inputs = width;
  if (reading.ok() && width < 1) reading.invalid("normalized_shape", "at least one feature", "0");
  if (!reading.ok()) return made;
  const bool has_weight = reading.has(prefix + "weight");
  const bool has_bias = reading.has(prefix + "bias");
  if (!has_weight && !has_bias) return made;
  for (const bool is_bias : {false, true}) {
    Array& table = is_bias ? made.step.bias : made.step.weight;
    if (is_bias ? has_bias : has_weight) {
      table = reading.tensor(prefix + (is_bias ? "bias" : "weight"), Dtype::kFloat32, {width});
      continue;
    }
    Result<Array> same = Array::make(Dtype::kFloat32, {width});
    if (!same.ok()) {
      reading.fail(std::move(same).status());
      return made;
    }
    std::fill_n(same->to_write<float>(), width, is_bias ? 0.0f : 1.0f);
    table = *std::move(same);
  }
  made.step.has_weight = made.step.has_bias = true;
  return made;
}

}  // namespace

// In float64 and then rounded, as layers/batchnorm.py does.
ChainStep read_batchnorm(Reading& reading, const std::string& prefix, double epsilon, bool affine) {
  ChainStep made;
  made.step.kind = StepKind::kAffine;
  const Array mean = reading.tensor(prefix + "running_mean", Dtype::kFloat32, {-1});
  if (!reading.ok()) return made;
  const std::int64_t count = made.inputs = mean.count();
  if (count < 1) reading.invalid("tensor '" + prefix + "running_mean'", "at least one number", "0");
  const Array variance = reading.tensor(prefix + "running_var", Dtype::kFloat32, {count});
  Array weight;
  Array bias;
  if (affine) weight = reading.tensor(prefix + "weight", Dtype::kFloat32, {count});
  if (affine) bias = reading.tensor(prefix + "bias", Dtype::kFloat32, {count});
  Result<Array> gains = Array::make(Dtype::kFloat32, {count});
  Result<Array> shifts = Array::make(Dtype::kFloat32, {count});
  if (!gains.ok() || !shifts.ok()) reading.fail(Status::out_of_memory());
  if (!reading.ok()) return made;
  for (std::int64_t i = 0; i < count; ++i) {
    double gain = 1 / std::sqrt(double{variance.as<float>()[i]} + epsilon);
    if (affine) gain *= double{weight.as<float>()[i]};
    double shift = -double{mean.as<float>()[i]} * gain;
    if (affine) shift += double{bias.as<float>()[i]};
    gains->to_write<float>()[i] = static_cast<float>(gain);
    shifts->to_write<float>()[i] = static_cast<float>(shift);
  }
  made.step.has_weight = made.step.has_bias = true;
  made.step.weight = *std::move(gains);
  made.step.bias = *std::move(shifts);
  return made;
}

ChainStep read_native(Reading& reading, const std::string& path, const std::string& prefix,
                      JsonValue record, bool& is_glu) {
  const std::string name = reading.text(record, "class");
  const JsonValue arguments = reading.field(record, "arguments", JsonKind::kObject);
  ChainStep made;
  is_glu = name == "GLU";
  if (name == "BatchNorm1d") {
    made = read_batchnorm(reading, prefix, number_of(reading, arguments, "eps"),
                          reading.truth(arguments, "affine"));
  } else if (name == "LayerNorm") {
    made = layer_norm(reading, prefix, arguments);
  } else if (name == "Softmax" || name == "LogSoftmax" || is_glu) {
    made.step.kind = name == "Softmax" ? StepKind::kSoftmax : StepKind::kLogSoftmax;
    if (!is_last(arguments)) reading.invalid("dim", "the last dimension", "another");
    if (is_glu) made.step.activation.function = Function::kSigmoid;
  } else if (name == "PReLU" && reading.ok() && arguments.find("num_parameters") &&
             arguments.find("num_parameters")->integer() != 1) {
    made.step.kind = StepKind::kSlopes;
    made.step.weight = reading.tensor(prefix + "weight", Dtype::kFloat32, {-1});
    made.step.has_weight = true;
    if (reading.ok()) made.inputs = made.step.weight.count();
    if (reading.ok() && made.inputs < 1) reading.invalid("num_parameters", "at least one", "0");
  } else {
    made.step.kind = StepKind::kActivate;
    made.step.activation = activation_of(reading, name, prefix, arguments);
  }
  made.step.name = path;
  return made;
}

}  // namespace fastmnist
