#include "pack/network.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <string>

#include "core/activations.h"
#include "core/quantizers.h"
#include "kernels/sizes.h"

namespace fastmnist {
namespace {

constexpr std::uint32_t kMagic = 0x4e4d4646;  // "FFMN" in memory
constexpr std::int64_t kPixelValues = 256;
// Keeps every product of sizes far inside int64.
constexpr std::int64_t kMaxOutputs = std::int64_t{1} << 24;

std::string layer_name(std::size_t i, const char* field) {
  return "layers[" + std::to_string(i) + "]." + field;
}

Status check_layer(const CanonicalLayer& layer, std::size_t i, bool is_static) {
  if (layer.inputs < 1 || layer.inputs > kMaxInputs)
    return Status::invalid(layer_name(i, "weight"), "1 to 65536 inputs",
                           std::to_string(layer.inputs));
  if (layer.outputs < 1 || layer.outputs > kMaxOutputs)
    return Status::invalid(layer_name(i, "weight"), "1 to 16777216 outputs",
                           std::to_string(layer.outputs));
  const std::string weight_scale = layer_name(i, "weight_scale");
  for (std::int64_t n = 0; n < layer.outputs; ++n)
    if (Status bad = check_scale(weight_scale, layer.weight_scale[n], FLT_TRUE_MIN); !bad.ok())
      return bad;
  for (std::int64_t n = 0; layer.bias != nullptr && n < layer.outputs; ++n)
    if (!std::isfinite(layer.bias[n]))
      return Status::invalid(layer_name(i, "bias"), "finite numbers", number_text(layer.bias[n]));
  if (std::isnan(layer.clamp.lo) || std::isnan(layer.clamp.hi) || layer.clamp.lo > layer.clamp.hi)
    return Status::invalid(layer_name(i, "clamp"), "lo <= hi",
                           number_text(layer.clamp.lo) + ", " + number_text(layer.clamp.hi));
  if (Status bad = check_activation(layer.activation); !bad.ok()) return bad;
  if (!is_static) return {};
  if (Status bad = check_scale(layer_name(i, "input_scale"), layer.x_quantizer.scale); !bad.ok())
    return bad;
  return check_zero_point(layer_name(i, "input_zero_point"), layer.x_quantizer.zero_point);
}

std::int64_t table_floats(InputKind input, PixelKind pixels, std::int64_t inputs,
                          std::int64_t channels) {
  if (input == InputKind::kAffine) return 2 * inputs;
  if (pixels == PixelKind::kTable) return kPixelValues * channels;
  return 0;
}

Status check(const NetworkSpec& spec) {
  if (spec.layers.empty() || spec.layers.size() > kMaxLayers)
    return Status::invalid("layers", "1 to 1024 layers", std::to_string(spec.layers.size()));
  if (!spec.forms.empty() && spec.forms.size() != spec.layers.size())
    return Status::invalid("forms", "a list for every layer or for none",
                           std::to_string(spec.forms.size()));
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    if (Status bad = check_layer(spec.layers[i], i, spec.input != InputKind::kDynamic); !bad.ok())
      return bad;
    if (i > 0 && spec.layers[i].inputs != spec.layers[i - 1].outputs)
      return Status::invalid(
          layer_name(i, "weight"),
          std::to_string(spec.layers[i - 1].outputs) + " inputs, the outputs before it",
          std::to_string(spec.layers[i].inputs));
  }
  for (std::size_t i = 0; i < spec.forms.size(); ++i)
    for (const FormSize& form : spec.forms[i])
      if (!can_have(form.form, spec.layers[i]))
        return Status::invalid(
            "forms",
            "nibbles for at most 16 distinct weights (0 counted where 64 does not divide "
            "the inputs)",
            "more in " + layer_name(i, "weight"));
  const std::int64_t inputs = spec.layers[0].inputs;
  for (std::int64_t k = 0; spec.input == InputKind::kAffine && k < inputs; ++k) {
    if (!std::isfinite(spec.multiplier[k]))
      return Status::invalid("input_multiplier", "finite numbers", number_text(spec.multiplier[k]));
    if (!std::isfinite(spec.offset[k]))
      return Status::invalid("input_offset", "finite numbers", number_text(spec.offset[k]));
  }
  if (spec.pixels == PixelKind::kTable &&
      (spec.input != InputKind::kDynamic || spec.channels < 1 || inputs % spec.channels != 0))
    return Status::invalid(
        "pixel_table", "a dynamic network and channels that divide its inputs",
        std::to_string(spec.channels) + " channels for " + std::to_string(inputs) + " inputs");
  if (spec.pixels == PixelKind::kCodes && spec.input == InputKind::kDynamic)
    return Status::invalid("pixels", "a pixel table for a dynamic network", "codes");
  return {};
}

// The largest |output| of a layer over all codes, in float64 with room for float32 rounding.
double largest_output(const CanonicalLayer& layer) {
  double largest = 0;
  for (std::int64_t n = 0; n < layer.outputs; ++n) {
    double magnitudes = 0;
    for (std::int64_t k = 0; k < layer.inputs; ++k)
      magnitudes += std::abs(static_cast<int>(layer.weight[n * layer.inputs + k]));
    const double scale = static_cast<double>(layer.x_quantizer.scale) * layer.weight_scale[n];
    const double bias = layer.bias != nullptr ? std::abs(static_cast<double>(layer.bias[n])) : 0.0;
    largest = std::max(largest, 255.0 * magnitudes * scale + bias);
  }
  return 1.001 * largest;
}

std::uint32_t most_weight(const CanonicalLayer& layer) {
  int most = 0;
  for (std::int64_t i = 0; i < layer.inputs * layer.outputs; ++i)
    most = std::max(most, std::abs(static_cast<int>(layer.weight[i])));
  return static_cast<std::uint32_t>(most);
}

// The dense form first, then the others.
std::vector<FormSize> forms_of(const NetworkSpec& spec, std::size_t layer) {
  std::vector<FormSize> forms = {{WeightForm::kDense, 0}};
  if (!spec.forms.empty())
    forms.insert(forms.end(), spec.forms[layer].begin(), spec.forms[layer].end());
  return forms;
}

Status not_packed(const char* what) {
  return Status::invalid(std::string("packed: not a packed network of this version (") + what +
                         "); pack the layers again");
}

}  // namespace

Result<std::int64_t> packed_network_bytes(const NetworkSpec& spec) {
  if (Status bad = check(spec); !bad.ok()) return bad;
  std::int64_t bytes =
      static_cast<std::int64_t>(sizeof(NetworkHeader) + sizeof(LayerRecord) * spec.layers.size());
  bytes += aligned(table_floats(spec.input, spec.pixels, spec.layers[0].inputs, spec.channels) * 4);
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    const CanonicalLayer& layer = spec.layers[i];
    for (const FormSize& form : forms_of(spec, i))
      bytes += bytes_of(form, layer.inputs, layer.outputs);
    if (layer.input_zeros != nullptr) bytes += aligned(layer.inputs);
  }
  return bytes;
}

Status pack_network(const NetworkSpec& spec, std::span<std::byte> buffer) {
  Result<std::int64_t> bytes = packed_network_bytes(spec);
  if (!bytes.ok()) return std::move(bytes).status();
  if (static_cast<std::int64_t>(buffer.size()) != *bytes)
    return Status::invalid("buffer", std::to_string(*bytes) + " bytes",
                           std::to_string(buffer.size()));
  std::memset(buffer.data(), 0, buffer.size());
  NetworkHeader header{};
  header.magic = kMagic;
  header.version = kPackedVersion;
  header.bytes = buffer.size();
  header.layers = static_cast<std::uint32_t>(spec.layers.size());
  header.input = spec.input;
  header.pixels = spec.pixels;
  header.channels = static_cast<std::uint32_t>(spec.channels);
  std::size_t at = sizeof(NetworkHeader) + sizeof(LayerRecord) * spec.layers.size();
  header.input_offset = at;
  const std::int64_t inputs = spec.layers[0].inputs;
  if (spec.input == InputKind::kAffine) {
    const std::size_t table = static_cast<std::size_t>(inputs) * sizeof(float);
    std::memcpy(buffer.data() + at, spec.multiplier, table);
    std::memcpy(buffer.data() + at + table, spec.offset, table);
  } else if (spec.pixels == PixelKind::kTable) {
    std::memcpy(buffer.data() + at, spec.pixel_table,
                static_cast<std::size_t>(kPixelValues * spec.channels) * sizeof(float));
  }
  at += static_cast<std::size_t>(
      aligned(table_floats(spec.input, spec.pixels, inputs, spec.channels) * 4));
  std::memcpy(buffer.data(), &header, sizeof header);
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    const CanonicalLayer& layer = spec.layers[i];
    LayerRecord record{};
    record.inputs = static_cast<std::uint32_t>(layer.inputs);
    record.outputs = static_cast<std::uint32_t>(layer.outputs);
    record.x_quantizer = layer.x_quantizer;
    record.clamp = layer.clamp;
    record.activation = layer.activation;
    record.most_weight = most_weight(layer);
    if (i + 1 < spec.layers.size() && spec.input != InputKind::kDynamic) {
      const double inv_scale = spec.layers[i + 1].x_quantizer.inv_scale;
      const double largest = largest_output(layer);
      // In float32 it must not overflow on the way, either.
      record.y_bounded = largest < FLT_MAX && largest * inv_scale < 1 << 30 ? 1 : 0;
    }
    for (const FormSize& form : forms_of(spec, i)) {
      const auto size = static_cast<std::uint64_t>(bytes_of(form, layer.inputs, layer.outputs));
      record.forms[static_cast<int>(form.form)] = {at, size};
      layout_of(form.form).pack(layer, form.count, buffer.data() + at);
      at += size;
    }
    if (layer.input_zeros != nullptr) {
      record.zeros_offset = at;
      record.zeros_bytes = static_cast<std::uint64_t>(aligned(layer.inputs));
      std::memcpy(buffer.data() + at, layer.input_zeros, static_cast<std::size_t>(layer.inputs));
      at += record.zeros_bytes;
    }
    std::memcpy(buffer.data() + sizeof(NetworkHeader) + i * sizeof record, &record, sizeof record);
  }
  return {};
}

Result<NetworkView> view_network(std::span<const std::byte> buffer) {
  if (buffer.size() < sizeof(NetworkHeader) ||
      reinterpret_cast<std::uintptr_t>(buffer.data()) % alignof(NetworkHeader) != 0)
    return not_packed("too short or misaligned");
  NetworkView view;
  view.base_ = buffer.data();
  view.header_ = reinterpret_cast<const NetworkHeader*>(buffer.data());
  view.records_ = reinterpret_cast<const LayerRecord*>(buffer.data() + sizeof(NetworkHeader));
  const NetworkHeader& header = *view.header_;
  if (header.magic != kMagic || header.version != kPackedVersion) return not_packed("no header");
  if (header.bytes != buffer.size()) return not_packed("cut or extended");
  if (header.layers < 1 || header.layers > kMaxLayers) return not_packed("number of layers");
  if (header.input > InputKind::kDynamic || header.pixels > PixelKind::kTable)
    return not_packed("kind of input");
  std::uint64_t at = sizeof(NetworkHeader) + sizeof(LayerRecord) * header.layers;
  if (at > header.bytes || header.input_offset != at) return not_packed("input tables");
  const std::int64_t inputs = view.records_[0].inputs;
  if (inputs < 1 || inputs > kMaxInputs || header.channels > kMaxInputs)
    return not_packed("number of inputs");
  const bool table = header.pixels == PixelKind::kTable;
  if (table != (header.channels != 0) || (table && header.input != InputKind::kDynamic) ||
      (table && inputs % header.channels != 0) ||
      (header.pixels == PixelKind::kCodes && header.input == InputKind::kDynamic))
    return not_packed("pixel table");
  at += static_cast<std::uint64_t>(
      aligned(table_floats(header.input, header.pixels, inputs, header.channels) * 4));
  std::uint32_t before = view.records_[0].inputs;
  for (std::uint32_t i = 0; i < header.layers; ++i) {
    const LayerRecord& record = view.records_[i];
    if (record.inputs != before || record.inputs > kMaxInputs || record.outputs < 1 ||
        record.outputs > kMaxOutputs || record.most_weight > 128 ||
        !check_activation(record.activation).ok() ||
        !(view.has_form(i, WeightForm::kDense) || view.has_form(i, WeightForm::kNibbles)))
      return not_packed("layer record");
    for (int f = 0; f < kWeightForms; ++f) {
      const auto form = static_cast<WeightForm>(f);
      const auto& place = record.forms[f];
      if (place.bytes == 0) continue;
      if (place.offset != at || place.bytes > header.bytes - at || place.bytes % 64 != 0 ||
          view.count(i, form) < 0)
        return not_packed("weights");
      at += place.bytes;
    }
    if (record.zeros_bytes != 0) {
      if (record.zeros_offset != at || record.zeros_bytes > header.bytes - at ||
          record.zeros_bytes != static_cast<std::uint64_t>(aligned(record.inputs)))
        return not_packed("zeros of the inputs");
      at += record.zeros_bytes;
    }
    before = record.outputs;
  }
  if (at != header.bytes) return not_packed("size");
  return view;
}

bool NetworkView::has_sparse(std::int64_t i) const {
  for (int form = 0; form < kWeightForms; ++form)
    if (is_sparse(static_cast<WeightForm>(form)) && has_form(i, static_cast<WeightForm>(form)))
      return true;
  return false;
}

std::int64_t NetworkView::count(std::int64_t i, WeightForm form) const {
  return checked_count(form, section(i, form), records_[i].inputs, records_[i].outputs);
}

std::span<const std::uint8_t> NetworkView::input_zeros(std::int64_t i) const {
  const LayerRecord& record = records_[i];
  if (record.zeros_bytes == 0) return {};
  return {reinterpret_cast<const std::uint8_t*>(base_ + record.zeros_offset), record.inputs};
}

Weights NetworkView::weights(std::int64_t i, WeightForm form) const {
  const std::int64_t units = form == WeightForm::kDense ? 0 : count(i, form);
  return layout_of(form).view(section(i, form).data(), units, records_[i].inputs,
                              records_[i].outputs);
}

std::int64_t NetworkView::products_per_row() const {
  std::int64_t products = 0;
  for (std::int64_t i = 0; i < layers(); ++i)
    products += static_cast<std::int64_t>(records_[i].inputs) * records_[i].outputs;
  return products;
}

std::int64_t NetworkView::widest() const {
  std::int64_t widest = inputs();
  for (std::int64_t i = 0; i < layers(); ++i)
    widest = std::max<std::int64_t>(widest, records_[i].outputs);
  return widest;
}

}  // namespace fastmnist
