#include "files/reading.h"

#include <cfloat>
#include <cmath>

#include "core/activations.h"
#include "pack/layer.h"

namespace fastmnist {
namespace {

// By the number of `Function`: its name in files, and how many parameters it has.
struct FunctionName {
  std::string_view name;
  int parameters;
};
constexpr FunctionName kFunctions[] = {
    {"", 0},     {"leaky_relu", 1}, {"elu", 3},         {"gelu", 0},        {"gelu_tanh", 0},
    {"silu", 0}, {"mish", 0},       {"hardswish", 0},   {"hardsigmoid", 0}, {"sigmoid", 0},
    {"tanh", 0}, {"softplus", 2},   {"log_sigmoid", 0}, {"softsign", 0},
};
static_assert(std::size(kFunctions) == static_cast<std::size_t>(kLastFunction) + 1);

std::string quoted(std::string_view text) { return "'" + std::string(text.substr(0, 40)) + "'"; }

std::string text_of(JsonValue value) {
  if (value.is_string()) return quoted(value.text());
  return value.is_number() ? number_text(value.number()) : name_of(value.kind());
}

}  // namespace

JsonValue Reading::field(JsonValue record, std::string_view name, JsonKind kind) {
  const std::optional<JsonValue> found = record.find(name);
  if (found && found->kind() == kind) return *found;
  const std::string named = "field '" + std::string(name) + "': expected ";
  if (!record.is_object())
    fail(Status::invalid(named + "a record that holds it, got " + name_of(record.kind())));
  else if (!found)
    fail(Status::invalid(named + name_of(kind) + ", but it is missing"));
  else
    fail(Status::invalid(named + name_of(kind) + ", got " + name_of(found->kind())));
  return {};
}

std::string Reading::text(JsonValue record, std::string_view name) {
  return std::string(field(record, name, JsonKind::kString).text());
}

bool Reading::truth(JsonValue record, std::string_view name) {
  const std::optional<JsonValue> found = record.find(name);
  if (!found || (found->kind() != JsonKind::kTrue && found->kind() != JsonKind::kFalse))
    invalid("field " + quoted(name), "bool", found ? name_of(found->kind()) : "none");
  return found && found->is_true();
}

std::int64_t Reading::index(JsonValue value, std::string_view name) {
  const std::optional<std::int64_t> number = value.integer();
  if (number && *number >= 0) return *number;
  invalid(std::string(name), "indexes", text_of(value));
  return 0;
}

std::int64_t Reading::index_field(JsonValue record, std::string_view name) {
  return index(field(record, name, JsonKind::kNumber), name);
}

JsonValue Reading::some(JsonValue record, std::string_view name, std::size_t most) {
  const JsonValue rows = field(record, name, JsonKind::kArray);
  const std::size_t count = rows.size();
  if (ok() && (count < 1 || count > most))
    invalid(std::string(name), "1 to " + std::to_string(most), std::to_string(count));
  return ok() ? rows : JsonValue();
}

float Reading::bound(JsonValue value) {
  if (value.is_string() && value.text() == "inf") return kNoClamp.hi;
  if (value.is_string() && value.text() == "-inf") return kNoClamp.lo;
  if (value.is_number() && std::fabs(value.number()) < 3.5e38)
    return static_cast<float>(value.number());
  invalid("clamp", "a number, 'inf' or '-inf'", text_of(value));
  return 0;
}

Clamp Reading::clamp(JsonValue record) {
  const JsonValue bounds = field(record, "clamp", JsonKind::kArray);
  if (ok() && bounds.size() != 2) invalid("clamp", "two bounds", std::to_string(bounds.size()));
  if (!ok()) return kNoClamp;
  auto at = bounds.begin();
  const float lo = bound(*at);
  const float hi = bound(*++at);
  if (lo > hi) invalid("clamp", "the lower bound first", "the upper one");
  return {lo, hi};
}

Activation Reading::function(JsonValue record) {
  const std::optional<JsonValue> told = record.find("function");
  if (!told || told->is_null()) return {};
  const std::string name = text(*told, "name");
  for (const JsonValue member : *told)
    if (member.key() != "name" && member.key() != "parameters")
      invalid("activation", "name and parameters", quoted(member.key()));
  for (std::size_t i = 1; i < std::size(kFunctions) && ok(); ++i) {
    if (name != kFunctions[i].name) continue;
    const std::optional<JsonValue> given = told->find("parameters");
    const std::size_t count = given ? given->size() : 0;
    if (static_cast<int>(count) != kFunctions[i].parameters || (given && !given->is_array())) {
      invalid("activation", std::to_string(kFunctions[i].parameters) + " parameters of " + name,
              std::to_string(count));
      return {};
    }
    float values[3] = {0, 0, 0};
    std::size_t at = 0;
    for (const JsonValue value : given.value_or(JsonValue())) {
      if (!value.is_number()) invalid("parameters", "finite numbers for " + name, text_of(value));
      values[at++] = static_cast<float>(value.number());
    }
    Result<Activation> checked =
        checked_activation(static_cast<std::int64_t>(i), values[0], values[1], values[2]);
    if (!checked.ok()) fail(std::move(checked).status());
    return ok() ? *checked : Activation{};
  }
  invalid("activation", "the name of one", quoted(name));
  return {};
}

std::optional<SavedPixels> Reading::pixels(JsonValue value) {
  if (value.is_null()) return std::nullopt;
  SavedPixels told;
  const auto read = [&](std::string_view name, std::vector<double>& numbers) {
    for (const JsonValue number : field(value, name, JsonKind::kArray)) {
      const auto rounded = static_cast<float>(number.number());
      if (!number.is_number() || !std::isfinite(rounded) || (name == "std" && !(rounded > 0)))
        invalid(std::string(name), "finite numbers, std above 0", text_of(number));
      numbers.push_back(number.number());
    }
  };
  read("mean", told.mean);
  read("std", told.std);
  if (ok() && (told.mean.empty() || told.mean.size() != told.std.size()))
    invalid("mean, std", "the same length",
            std::to_string(told.mean.size()) + " and " + std::to_string(told.std.size()));
  if (!ok()) return std::nullopt;
  return told;
}

std::vector<std::uint8_t> Reading::zeros(JsonValue record, std::int64_t inputs) {
  const std::optional<JsonValue> told = record.find("input_zeros");
  if (!told || told->is_null()) return {};
  const std::string_view letters = told->text();
  std::vector<std::uint8_t> zeros;
  bool fits = told->is_string();
  for (std::size_t at = 0; fits && at < letters.size();) {
    const char letter = letters[at++];
    const bool upper = letter >= 'A' && letter <= 'Z';
    fits = upper || (letter >= 'a' && letter <= 'z');
    std::int64_t run = 0;
    const std::size_t digits = at;
    while (at < letters.size() && at - digits < 5 && letters[at] >= '0' && letters[at] <= '9')
      run = 10 * run + (letters[at++] - '0');
    if (at == digits) run = 1;
    fits = fits && static_cast<std::int64_t>(zeros.size()) + run <= inputs;
    if (fits)
      zeros.insert(zeros.end(), static_cast<std::size_t>(run),
                   static_cast<std::uint8_t>(upper ? letter - 'A' : letter - 'a' + 26));
  }
  if (fits && static_cast<std::int64_t>(zeros.size()) == inputs) return zeros;
  invalid("input_zeros", "letters for " + std::to_string(inputs) + " inputs", text_of(*told));
  return {};
}

Array Reading::tensor(const std::string& key, Dtype dtype, const Shape& shape) {
  const std::string wanted = std::string(about(dtype).full) + " " + fastmnist::text_of(shape);
  if (!ok()) return {};
  if (!has(key)) {
    fail(Status::invalid("tensor '" + key + "': expected " + wanted + ", but it is missing"));
    return {};
  }
  Result<Array> array = file_.array(model_, key);
  if (!array.ok()) {
    fail(std::move(array).status());
    return {};
  }
  bool fits = array->dtype() == dtype && array->shape().size() == shape.size();
  for (std::size_t i = 0; fits && i < shape.size(); ++i)
    fits = shape[i] < 0 || shape[i] == array->shape()[i];
  if (!fits) {
    invalid("tensor '" + key + "'", wanted,
            std::string(about(array->dtype()).full) + " " + fastmnist::text_of(array->shape()));
    return {};
  }
  return *std::move(array);
}

Array Reading::floats(const std::string& key) {
  if (!ok()) return {};
  Result<Array> array = file_.array(model_, key);
  if (array.ok() && array->dtype() != Dtype::kFloat32)
    array =
        Status::invalid("tensor '" + key + "'", "float32", std::string(about(array->dtype()).full));
  if (!array.ok()) {
    fail(std::move(array).status());
    return {};
  }
  return *std::move(array);
}

float Reading::number(const std::string& key) {
  const Array array = tensor(key, Dtype::kFloat32, {});
  return ok() ? *array.as<float>() : 0;
}

}  // namespace fastmnist
