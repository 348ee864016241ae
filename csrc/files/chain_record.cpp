#include "files/chain_record.h"

#include <algorithm>
#include <utility>

#include "files/native_record.h"
#include "files/network_record.h"

namespace fastmnist {
namespace {

constexpr std::size_t kMostSteps = 4096;
constexpr const char* kCompileIt = ": save fm.compile(model), where it can be one, and name that";

Clamp composed(Clamp inner, Clamp outer) {
  const auto bound = [&](float value) { return std::min(std::max(value, outer.lo), outer.hi); };
  return {bound(inner.lo), bound(inner.hi)};
}

class ChainReader {
 public:
  explicit ChainReader(Reading& reading) : reading_(reading) {}

  SavedGraph read() {
    const JsonValue description = reading_.description();
    replaced_ = reading_.field(description, "replaced", JsonKind::kObject);
    if (const std::optional<JsonValue> alone = replaced_.find("")) {
      layer("", *alone);
    } else if (const std::optional<JsonValue> chain = description.find("chain");
               chain && chain->is_array()) {
      for (const JsonValue one : reading_.some(description, "chain", kMostSteps))
        if (reading_.ok()) step(one);
    } else if (reading_.ok()) {
      only_torch("a model that is no chain of layers");
    }
    if (reading_.ok()) assemble();
    if (reading_.ok()) tell_pixels();
    return std::move(graph_);
  }

 private:
  void only_torch(const std::string& what) {
    reading_.invalid("model", "int8 and float32 layers one after the other",
                     what + ", which needs torch" + kCompileIt);
  }

  void step(JsonValue record) {
    const std::string kind = reading_.text(record, "type");
    const std::optional<JsonValue> named = record.find("path");
    const std::string path(named ? named->text() : std::string_view());
    const std::optional<JsonValue> part = named ? replaced_.find(path) : std::optional<JsonValue>();
    // In files of format 1 what stands at a path says more than the step does.
    const bool old = reading_.format() == 1 && part && !is_identity(*part);
    constexpr std::string_view kOwn[] = {"clamp", "flatten", "rows", "identity", "dropout"};
    const bool is_own = std::find(std::begin(kOwn), std::end(kOwn), kind) != std::end(kOwn);
    const bool inlined = kind == "linear" || kind == "batchnorm";
    if (inlined) {
      layer(path, old && part->find("shape") ? *part : record);
    } else if (part && (old || !is_own)) {
      const std::optional<JsonValue> type = part->find("type");
      if (!old && !(type && type->text() == kind))
        reading_.invalid("type", "that of '" + path + "'", "'" + kind + "'");
      layer(path, *part);
    } else if (kind == "clamp") {
      SavedStep clamp;
      clamp.kind = StepKind::kClamp;
      clamp.name = path;
      clamp.clamp = reading_.clamp(record);
      steps_.push_back({std::move(clamp), 0, 0});
    } else if (kind == "rows") {  // nothing, if rows have so many features: else it parts them
      SavedStep rows;
      rows.name = path;
      steps_.push_back({std::move(rows), reading_.index_field(record, "features"), 0});
      if (reading_.ok() && steps_.back().inputs < 1)
        reading_.invalid("features", "at least 1", "0");
    } else if (kind != "flatten" && kind != "identity" && kind != "dropout") {
      only_torch("a step '" + kind + "'");
    }
  }

  static bool is_identity(JsonValue part) {
    const std::optional<JsonValue> type = part.find("type");
    return type && type->text() == "identity";
  }

  void layer(const std::string& path, JsonValue record) {
    const std::string prefix = path.empty() ? "" : path + ".";
    const std::string kind = reading_.text(record, "type");
    if (kind == "int8") {
      push(read_layer(reading_, prefix, record), path);
    } else if (kind == "quantized") {  // of format 1: a chain in the place of its first layer
      push(read_network(reading_, prefix, record), path);
    } else if (kind == "linear" || kind == "fused") {
      float_layer(path, prefix, record);
    } else if (kind == "batchnorm") {
      const double epsilon = reading_.field(record, "eps", JsonKind::kNumber).number();
      push(read_batchnorm(reading_, prefix, epsilon, reading_.truth(record, "affine")), path);
    } else if (kind == "native") {
      bool is_glu = false;
      ChainStep made = read_native(reading_, path, prefix, record, is_glu);
      glu_.push_back(is_glu ? steps_.size() : SIZE_MAX);
      push(std::move(made), path);
    } else if (kind == "low rank") {
      for (const char* part : {"first", "second"})
        layer(prefix + part, reading_.field(replaced_, prefix + part, JsonKind::kObject));
    } else if (reading_.ok() && kind != "identity") {
      only_torch("a layer '" + kind + "' ('" + path + "')");
    }
  }

  void push(ChainStep made, const std::string& path) {
    made.step.name = path;
    steps_.push_back(std::move(made));
  }
  void push(SavedNetwork network, const std::string& path) {
    if (!reading_.ok()) return;
    ChainStep made;
    made.step.kind = StepKind::kInt8;
    made.inputs = network.layers.front().inputs();
    made.outputs = network.layers.back().outputs();
    made.step.network = std::move(network);
    push(std::move(made), path);
  }

  void float_layer(const std::string& path, const std::string& prefix, JsonValue record) {
    ChainStep made;
    made.step.kind = StepKind::kFloat;
    made.step.clamp = record.find("clamp") ? reading_.clamp(record) : kNoClamp;
    made.step.activation = reading_.function(record);
    const JsonValue shape = reading_.field(record, "shape", JsonKind::kArray);
    if (reading_.ok() && shape.size() != 2)
      reading_.invalid("shape", "inputs and outputs", std::to_string(shape.size()) + " sizes");
    if (!reading_.ok()) return;
    auto at = shape.begin();
    made.inputs = reading_.index(*at, "shape");
    made.outputs = reading_.index(*++at, "shape");
    if (made.inputs < 1 || made.outputs < 1)
      return reading_.invalid("shape", "inputs and outputs of at least 1", "0");
    made.step.has_weight = true;
    made.step.weight = weight(path, prefix, {made.outputs, made.inputs});
    const std::optional<JsonValue> bias = record.find("bias");
    made.step.has_bias = !bias || bias->kind() != JsonKind::kFalse;
    if (!made.step.has_bias && reading_.has(prefix + "bias"))
      reading_.invalid("tensor '" + prefix + "bias'", "none", "one");
    if (made.step.has_bias)
      made.step.bias = reading_.tensor(prefix + "bias", Dtype::kFloat32, {made.outputs});
    push(std::move(made), path);
  }

  // Of a clustered layer a table of values, and a place there for each weight, 0 as -128.
  Array weight(const std::string& path, const std::string& prefix, const Shape& shape) {
    std::string scope;
    const JsonValue all = reading_.description().find("clustered").value_or(JsonValue());
    for (const JsonValue pair : all) {
      if (pair.size() != 2) continue;
      auto part = pair.begin();
      if ((*part).text() == path) scope = (*++part).text();
    }
    if (scope.empty()) return reading_.tensor(prefix + "weight", Dtype::kFloat32, shape);
    const bool each = scope == "channel";
    const Array table = reading_.tensor(prefix + "weight_table", Dtype::kFloat32,
                                        each ? Shape{shape[0], -1} : Shape{-1});
    const Array places = reading_.tensor(prefix + "weight_places", Dtype::kInt8, shape);
    Result<Array> made = Array::make(Dtype::kFloat32, shape);
    if (!made.ok()) reading_.fail(std::move(made).status());
    if (!reading_.ok()) return {};
    const std::int64_t values = table.shape().back();
    for (std::int64_t i = 0; i < shape[0] * shape[1]; ++i) {
      const int place = places.as<std::int8_t>()[i] + 128;
      if (place >= values) {
        reading_.invalid("tensor '" + prefix + "weight_places'", "below " + std::to_string(values),
                         std::to_string(place));
        return {};
      }
      made->to_write<float>()[i] = table.as<float>()[(each ? i / shape[1] * values : 0) + place];
    }
    return *std::move(made);
  }

  // ---- from steps to a graph --------------------------------------------------------------------

  void assemble() {
    std::int64_t width = 0;
    for (const ChainStep& made : steps_)
      if (width == 0) width = made.inputs;
    if (width == 0) return only_torch("no layer");
    graph_.inputs.push_back({"x", value(width), std::nullopt, true});
    for (std::size_t i = 0; i < steps_.size() && reading_.ok(); ++i) {
      ChainStep& made = steps_[i];
      if (made.inputs != 0 && made.inputs != width)
        return only_torch("rows of " + std::to_string(width) + " features where '" +
                          made.step.name + "' takes " + std::to_string(made.inputs));
      if (std::find(glu_.begin(), glu_.end(), i) != glu_.end()) {
        if (width % 2 != 0) return only_torch("an odd number of features to halve");
        width /= 2;
        glu(std::move(made.step), width);
        continue;
      }
      if (made.step.kind == StepKind::kReshape) continue;
      if (made.outputs != 0) width = made.outputs;
      if (!joined(made.step)) add(std::move(made.step), {last_}, width);
    }
    if (reading_.ok() && graph_.steps.empty()) return only_torch("nothing that computes");
    graph_.outputs = {last_};
  }

  std::int64_t value(std::int64_t width) {
    graph_.values.emplace_back();
    graph_.values.back().shape = {width};
    return last_ = static_cast<std::int64_t>(graph_.values.size()) - 1;
  }

  std::int64_t add(SavedStep step, std::vector<std::int64_t> operands, std::int64_t width) {
    if (step.kind != StepKind::kClamp && step.kind != StepKind::kFloat) step.clamp = kNoClamp;
    step.operands = std::move(operands);
    step.value = value(width);
    graph_.steps.push_back(std::move(step));
    return last_;
  }

  // One half by the sigmoid of the other.
  void glu(SavedStep sigmoid, std::int64_t width) {
    const std::int64_t from = last_;
    SavedStep slice;
    SavedStep gate;
    SavedStep product;
    for (SavedStep* one : {&slice, &gate, &product}) one->name = sigmoid.name;
    slice.kind = gate.kind = StepKind::kSlice;
    gate.begin = width;
    product.kind = StepKind::kMultiply;
    const std::int64_t half = add(std::move(slice), {from}, width);
    const std::int64_t other = add(std::move(gate), {from}, width);
    sigmoid.kind = StepKind::kActivate;
    const std::int64_t share = add(std::move(sigmoid), {other}, width);
    add(std::move(product), {half, share}, width);
  }

  // Whether the step could be put into the one before it.
  bool joined(SavedStep& step) {
    if (graph_.steps.empty()) return false;
    SavedStep& before = graph_.steps.back();
    if (before.kind == StepKind::kInt8) {
      SavedLayer& layer = before.network->layers.back();
      const bool free = layer.activation.function == Function::kNone;
      if (step.kind == StepKind::kClamp && free) {
        layer.clamp = composed(layer.clamp, step.clamp);
        return true;
      }
      if (step.kind == StepKind::kActivate && free) {
        layer.activation = step.activation;
        return true;
      }
      if (step.kind != StepKind::kInt8 || !can_follow(*before.network, *step.network)) return false;
      append(*before.network, std::move(*step.network));
      graph_.values.back().shape = {before.network->layers.back().outputs()};
      return true;
    }
    const bool takes = before.kind == StepKind::kFloat || before.kind == StepKind::kClamp;
    if (!takes || before.activation.function != Function::kNone) return false;
    if (step.kind == StepKind::kClamp) {
      before.clamp = composed(before.clamp, step.clamp);
      return true;
    }
    if (step.kind != StepKind::kActivate || before.kind != StepKind::kFloat) return false;
    before.activation = step.activation;
    return true;
  }

  // What pixels are to the input, and whether the first layer's codes are these.
  void tell_pixels() {
    const std::optional<SavedPixels> told =
        reading_.pixels(reading_.description().find("pixels").value_or(JsonValue()));
    SavedInput& input = graph_.inputs.front();
    std::optional<SavedNetwork>& first = graph_.steps.front().network;
    input.pixels = first && first->pixels ? first->pixels : told;
    const std::int64_t size = graph_.values[static_cast<std::size_t>(input.value)].size();
    if (!reading_.ok()) return;
    if (input.pixels && size % static_cast<std::int64_t>(input.pixels->channels()) != 0)
      input.pixels.reset();
    bool is_first = true;
    for (SavedStep& step : graph_.steps) {
      if (step.network && !(is_first && step.network->pixels == input.pixels))
        step.network->pixels.reset();
      is_first = false;
    }
  }

  Reading& reading_;
  JsonValue replaced_;
  std::vector<ChainStep> steps_;
  std::vector<std::size_t> glu_;  // places of GLUs among them
  SavedGraph graph_;
  std::int64_t last_ = 0;  // the value that the next step reads
};

}  // namespace

SavedGraph read_chain(Reading& reading) { return ChainReader(reading).read(); }

}  // namespace fastmnist
