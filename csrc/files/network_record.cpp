#include "files/network_record.h"

#include <cfloat>
#include <iterator>
#include <utility>

#include "core/quantizers.h"

namespace fastmnist {
namespace {

constexpr std::size_t kMostLayersOfFile = kMaxLayers;

// How tensors are called: now, and in format 1, where a network's multiplier was its own.
struct Names {
  std::string weight;
  std::string layer;    // prefix of the layer's others
  std::string network;  // prefix of multiplier and offset
};

InputKind kind_of(Reading& reading, JsonValue record) {
  const std::string kind = reading.text(record, "kind");
  if (kind == "affine") return InputKind::kAffine;
  if (kind == "dynamic") return InputKind::kDynamic;
  if (kind != "static") reading.invalid("kind", "one of static, affine, dynamic", "'" + kind + "'");
  return InputKind::kStatic;
}

SavedLayer layer_of(Reading& reading, const Names& names, InputKind kind, JsonValue record) {
  SavedLayer layer;
  layer.name = reading.text(record, "name");
  layer.clamp = reading.clamp(record);
  layer.activation = reading.function(record);
  layer.weight = reading.tensor(names.weight, Dtype::kInt8, {-1, -1});
  if (!reading.ok()) return layer;
  const Shape outputs = {layer.outputs()};
  if (layer.outputs() < 1 || layer.inputs() < 1)
    reading.invalid("tensor '" + names.weight + "'", "at least one output and input",
                    text_of(layer.weight.shape()));
  layer.weight_scale = reading.tensor(names.layer + "weight_scale", Dtype::kFloat32, outputs);
  const std::optional<JsonValue> bias = record.find("bias");
  layer.has_bias = !bias || bias->kind() != JsonKind::kFalse;
  if (layer.has_bias) layer.bias = reading.tensor(names.layer + "bias", Dtype::kFloat32, outputs);
  layer.input_zeros = reading.zeros(record, layer.inputs());
  if (kind == InputKind::kDynamic) return layer;
  layer.input_scale = reading.number(names.layer + "input_scale");
  const Array zero_point = reading.tensor(names.layer + "input_zero_point", Dtype::kInt32, {});
  if (!reading.ok()) return layer;
  layer.input_zero_point = *zero_point.as<std::int32_t>();
  reading.fail(check_scale("input_scale", layer.input_scale));
  reading.fail(check_zero_point("input_zero_point", layer.input_zero_point));
  return layer;
}

SavedNetwork network_of(Reading& reading, const Names& names, InputKind kind, JsonValue record,
                        JsonValue pixels) {
  SavedNetwork network;
  network.kind = kind;
  network.layers.push_back(layer_of(reading, names, kind, record));
  network.pixels = reading.pixels(pixels);
  if (!reading.ok()) return network;
  const std::int64_t inputs = network.layers[0].inputs();
  if (kind == InputKind::kAffine) {
    const std::string& prefix = names.network;
    network.multiplier = reading.tensor(prefix + "input_multiplier", Dtype::kFloat32, {inputs});
    network.offset = reading.tensor(prefix + "input_offset", Dtype::kFloat32, {inputs});
  }
  if (network.pixels && inputs % static_cast<std::int64_t>(network.pixels->channels()) != 0)
    reading.invalid("pixels", "channels that divide the " + std::to_string(inputs) + " features",
                    std::to_string(network.pixels->channels()));
  return network;
}

}  // namespace

SavedNetwork read_layer(Reading& reading, const std::string& prefix, JsonValue record) {
  const std::optional<JsonValue> pixels = record.find("pixels");
  return network_of(reading, {prefix + "weight_int8", prefix, prefix}, kind_of(reading, record),
                    record, pixels.value_or(JsonValue()));
}

SavedNetwork read_network(Reading& reading, const std::string& prefix, JsonValue record) {
  const InputKind kind = kind_of(reading, record);
  const bool old = reading.format() == 1;
  const std::optional<JsonValue> pixels = record.find("pixels");
  SavedNetwork network;
  std::size_t i = 0;
  for (const JsonValue row : reading.some(record, "layers", kMostLayersOfFile)) {
    const std::string own = prefix + "layers." + std::to_string(i) + ".";
    const Names names{own + (old ? "weight" : "weight_int8"), own, old ? prefix : own};
    // Only the first layer can have numbers for each feature, or be given pixels.
    const InputKind of = i > 0 && kind == InputKind::kAffine ? InputKind::kStatic : kind;
    SavedNetwork layer =
        network_of(reading, names, of, row, i == 0 ? pixels.value_or(JsonValue()) : JsonValue());
    if (!reading.ok()) return network;
    if (i++ == 0)
      network = std::move(layer);
    else
      append(network, std::move(layer));
  }
  return network;
}

bool can_follow(const SavedNetwork& network, const SavedNetwork& next) {
  const bool both = (network.kind == InputKind::kDynamic) == (next.kind == InputKind::kDynamic);
  return both && next.kind != InputKind::kAffine;
}

void append(SavedNetwork& network, SavedNetwork next) {
  network.layers.insert(network.layers.end(), std::make_move_iterator(next.layers.begin()),
                        std::make_move_iterator(next.layers.end()));
}

}  // namespace fastmnist
