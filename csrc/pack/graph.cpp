#include "pack/graph.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "core/activations.h"
#include "core/quantizers.h"
#include "kernels/sizes.h"
#include "pack/float_panels.h"
#include "pack/graph_memory.h"
#include "pack/graph_steps.h"

namespace fastmnist {
namespace {

std::string step_name(std::size_t i) { return "steps[" + std::to_string(i) + "]"; }

struct Packer {
  const GraphSpec& spec;
  std::vector<ValueRecord> values{};
  std::vector<InputRecord> inputs{};
  std::vector<StepRecord> steps{};
  std::vector<std::uint32_t> operands{};
  std::vector<std::uint32_t> outputs{};
  std::int64_t scratch = 0;
  std::int64_t products = 0;
  std::int64_t at = 0;  // bytes laid out so far

  std::int64_t section(std::int64_t bytes) {
    const std::int64_t offset = at;
    at += aligned(bytes);
    return offset;
  }

  bool is_value(std::int64_t i) const {
    return i >= 0 && i < static_cast<std::int64_t>(spec.values.size());
  }

  Status check_values() const {
    for (const GraphSpec::Value& value : spec.values)
      if (value.positions < 1 || value.width < 1 || value.positions > kMostValues ||
          value.width > kMostValues || value.positions * value.width > kMostValues)
        return Status::invalid("values", "1 to 67108864 numbers a sample",
                               text_of({value.positions, value.width}));
    if (spec.inputs.empty() || spec.outputs.empty())
      return Status::invalid("graph", "inputs and outputs", "none");
    if (spec.steps.empty() || spec.steps.size() > kMaxSteps)
      return Status::invalid("steps", "1 to 4096", std::to_string(spec.steps.size()));
    return {};
  }

  Status check_step(std::size_t i, const std::vector<bool>& known) const {
    const GraphSpec::Step& step = spec.steps[i];
    std::vector<ValueSize> sizes;
    for (const std::int64_t operand : step.operands) {
      if (!is_value(operand) || !known[static_cast<std::size_t>(operand)])
        return Status::invalid(step_name(i), "operands that steps before it give",
                               std::to_string(operand));
      const GraphSpec::Value& value = spec.values[static_cast<std::size_t>(operand)];
      if (value.constant != nullptr && !takes_constants(step.kind))
        return Status::invalid(step_name(i), "operands that are each sample's own", "a constant");
      sizes.push_back({value.positions, value.width});
    }
    if (!is_value(step.value) || known[static_cast<std::size_t>(step.value)])
      return Status::invalid(step_name(i), "a value of its own", std::to_string(step.value));
    const GraphSpec::Value& given = spec.values[static_cast<std::size_t>(step.value)];
    const ValueSize wanted{given.positions, given.width};
    if (step.kind > kLastStepKind || step.begin < 0 ||
        size_of(step.kind, sizes, wanted, step.begin) != wanted)
      return Status::invalid(
          step_name(i), "sizes that fit its kind",
          sizes.empty() ? "no operands" : text_of(sizes[0]) + " to " + text_of(wanted));
    if (Status bad = check_activation(step.activation); !bad.ok()) return bad;
    return check_numbers(i, sizes[0], wanted);
  }

  Status check_numbers(std::size_t i, const ValueSize& x, const ValueSize& y) const {
    const GraphSpec::Step& step = spec.steps[i];
    const auto finite = [](const float* numbers, std::int64_t count) {
      return std::all_of(numbers, numbers + count, [](float v) { return std::isfinite(v); });
    };
    bool good = true;
    if (step.kind == StepKind::kFloat)
      good = step.weight != nullptr && finite(step.weight, x.width * y.width) &&
             (step.bias == nullptr || finite(step.bias, y.width));
    if (step.kind == StepKind::kSlopes)
      good = step.weight != nullptr && finite(step.weight, x.all());
    if (step.kind == StepKind::kAffine)
      good = step.weight != nullptr && step.bias != nullptr && finite(step.weight, x.all()) &&
             finite(step.bias, x.all());
    if (step.kind == StepKind::kLayerNorm)
      good =
          (step.weight == nullptr) == (step.bias == nullptr) && step.epsilon >= 0 &&
          (step.weight == nullptr || (finite(step.weight, x.width) && finite(step.bias, x.width)));
    if (!good)
      return Status::invalid(step_name(i), "finite numbers of its sizes", "others, or none");
    if (std::isnan(step.clamp.lo) || std::isnan(step.clamp.hi) || step.clamp.lo > step.clamp.hi)
      return Status::invalid(step_name(i), "a clamp with lo <= hi",
                             number_text(step.clamp.lo) + ", " + number_text(step.clamp.hi));
    if (step.kind != StepKind::kInt8) return {};
    Result<NetworkView> network = view_network(step.network);
    if (!network.ok()) return std::move(network).status();
    if (network->inputs() != x.width || network->outputs() != y.width)
      return Status::invalid(
          step_name(i), "a network from and to values of its widths",
          std::to_string(network->inputs()) + " to " + std::to_string(network->outputs()));
    return {};
  }

  // Pixels are used in place by int8 networks that know them only.
  Status check_pixels() const {
    for (const GraphSpec::Input& input : spec.inputs)
      for (std::size_t i = 0; i < spec.steps.size(); ++i) {
        const GraphSpec::Step& step = spec.steps[i];
        const bool reads = std::find(step.operands.begin(), step.operands.end(), input.value) !=
                           step.operands.end();
        const bool good = step.kind == StepKind::kInt8 &&
                          view_network(step.network)->pixels() != PixelKind::kNone;
        if (input.pixels == PixelKind::kCodes && reads && !good)
          return Status::invalid(step_name(i), "an int8 network that takes pixels", "another step");
      }
    return {};
  }

  Status check_all() const {
    if (Status bad = check_values(); !bad.ok()) return bad;
    std::vector<bool> known(spec.values.size());
    for (std::size_t i = 0; i < known.size(); ++i) known[i] = spec.values[i].constant != nullptr;
    std::vector<bool> is_input(spec.values.size());
    for (const GraphSpec::Input& input : spec.inputs) {
      if (!is_value(input.value) || known[static_cast<std::size_t>(input.value)])
        return Status::invalid("inputs", "values of their own", std::to_string(input.value));
      known[static_cast<std::size_t>(input.value)] = true;
      is_input[static_cast<std::size_t>(input.value)] = true;
      const GraphSpec::Value& value = spec.values[static_cast<std::size_t>(input.value)];
      if (input.pixels == PixelKind::kTable &&
          (input.table == nullptr || input.channels < 1 || input.channels > kMaxInputs ||
           value.positions * value.width % input.channels != 0))
        return Status::invalid("inputs", "channels that divide the values of a sample",
                               std::to_string(input.channels));
    }
    for (std::size_t i = 0; i < spec.steps.size(); ++i) {
      if (Status bad = check_step(i, known); !bad.ok()) return bad;
      known[static_cast<std::size_t>(spec.steps[i].value)] = true;
    }
    if (Status bad = check_pixels(); !bad.ok()) return bad;
    std::vector<bool> taken = is_input;
    for (const std::int64_t output : spec.outputs) {
      if (!is_value(output) || !known[static_cast<std::size_t>(output)] ||
          taken[static_cast<std::size_t>(output)] ||
          spec.values[static_cast<std::size_t>(output)].constant != nullptr)
        return Status::invalid("outputs", "values that steps give, each once",
                               std::to_string(output));
      taken[static_cast<std::size_t>(output)] = true;
    }
    std::vector<bool> indexes(spec.values.size());
    for (const GraphSpec::Step& step : spec.steps)
      if (step.kind == StepKind::kArgMax) {
        const auto value = static_cast<std::size_t>(step.value);
        indexes[value] = true;
        if (!taken[value]) return Status::invalid("steps", "indexes as outputs", "others");
      }
    for (const GraphSpec::Step& step : spec.steps)
      for (const std::int64_t operand : step.operands)
        if (indexes[static_cast<std::size_t>(operand)])
          return Status::invalid("steps", "indexes as outputs only", "a value that is read");
    return {};
  }

  // Every value's place; those of scratch memory by the times in which they are needed.
  void place_values() {
    for (const GraphSpec::Value& value : spec.values)
      values.push_back({static_cast<std::uint32_t>(value.positions),
                        static_cast<std::uint32_t>(value.width), Place::kScratch, 0, 0, 0});
    for (std::size_t i = 0; i < spec.inputs.size(); ++i) {
      ValueRecord& value = values[static_cast<std::size_t>(spec.inputs[i].value)];
      value.place = Place::kInput;
      value.index = static_cast<std::uint32_t>(i);
    }
    for (std::size_t i = 0; i < spec.outputs.size(); ++i) {
      ValueRecord& value = values[static_cast<std::size_t>(spec.outputs[i])];
      value.place = Place::kOutput;
      value.index = static_cast<std::uint32_t>(i);
      outputs.push_back(static_cast<std::uint32_t>(spec.outputs[i]));
    }
    for (std::size_t i = 0; i < values.size(); ++i)
      if (spec.values[i].constant != nullptr) values[i].place = Place::kConstant;
    plan_memory();
  }

  void plan_memory() {
    constexpr std::int64_t kNone = -1;
    std::vector<std::int64_t> last(values.size(), kNone);  // step that reads it last
    for (std::size_t i = 0; i < spec.steps.size(); ++i) {
      const auto step = static_cast<std::int64_t>(i);
      for (const std::int64_t operand : spec.steps[i].operands)
        last[static_cast<std::size_t>(operand)] = step;
      std::int64_t& own = last[static_cast<std::size_t>(spec.steps[i].value)];
      own = std::max(own, step);
    }
    std::vector<Lifetime> lifetimes;
    std::vector<std::int64_t> lifetime_of(values.size(), kNone);
    std::vector<std::uint64_t*> offsets;
    const auto begin = [&](std::size_t value, std::int64_t step, std::uint64_t* offset) {
      lifetime_of[value] = static_cast<std::int64_t>(lifetimes.size());
      lifetimes.push_back({values[value].size(), step, std::max(step, last[value])});
      offsets.push_back(offset);
    };
    for (std::size_t i = 0; i < spec.inputs.size(); ++i) {
      const GraphSpec::Input& input = spec.inputs[i];
      inputs.push_back({static_cast<std::uint32_t>(input.value), input.pixels,
                        static_cast<std::uint32_t>(input.channels), 0, 0, 0});
    }
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if (inputs[i].pixels == PixelKind::kTable) begin(inputs[i].value, kNone, &inputs[i].scratch);
    for (std::size_t i = 0; i < spec.steps.size(); ++i) {
      const GraphSpec::Step& step = spec.steps[i];
      const auto value = static_cast<std::size_t>(step.value);
      if (values[value].place != Place::kScratch) continue;
      const auto now = static_cast<std::int64_t>(i);
      begin(value, now, &values[value].offset);
      if (!works_in_place(step.kind)) continue;
      for (const std::int64_t operand : step.operands) {
        const auto other = static_cast<std::size_t>(operand);
        if (values[other].place == Place::kScratch && last[other] == now &&
            values[other].size() == values[value].size())
          lifetimes.back().instead = lifetime_of[other];
      }
    }
    const ScratchPlan plan = plan_scratch(lifetimes);
    for (std::size_t i = 0; i < lifetimes.size(); ++i)
      *offsets[i] = static_cast<std::uint64_t>(plan.offsets[i]);
    scratch = plan.floats;
  }

  void describe_steps() {
    for (const GraphSpec::Step& step : spec.steps) {
      const ValueRecord& x = values[static_cast<std::size_t>(step.operands[0])];
      const ValueRecord& y = values[static_cast<std::size_t>(step.value)];
      StepRecord record{};
      record.kind = step.kind;
      record.value = static_cast<std::uint32_t>(step.value);
      record.first_operand = static_cast<std::uint32_t>(operands.size());
      record.operands = static_cast<std::uint32_t>(step.operands.size());
      for (const std::int64_t operand : step.operands)
        operands.push_back(static_cast<std::uint32_t>(operand));
      record.activation = step.activation;
      record.clamp = step.clamp;
      record.epsilon = step.epsilon;
      record.begin = static_cast<std::uint32_t>(step.begin);
      std::int64_t bytes =
          section_bytes(step.kind, {x.positions, x.width}, y.width, step.weight != nullptr);
      if (bytes < 0) bytes = static_cast<std::int64_t>(step.network.size());
      record.bytes = static_cast<std::uint64_t>(bytes);
      steps.push_back(record);
      // A float product takes as long as some eight of int8; other steps are a few a number.
      std::int64_t own = 4 * y.size();
      if (step.kind == StepKind::kFloat) own += 8 * x.width * y.size();
      if (step.kind == StepKind::kInt8)
        own += x.positions * view_network(step.network)->products_per_row();
      products += own;
    }
  }

  // The first step that has the same numbers: a layer that is called twice is held once.
  std::size_t twin_of(std::size_t i) const {
    const GraphSpec::Step& own = spec.steps[i];
    const auto same = [](const float* a, const float* b, std::int64_t count) {
      return a == b || (a != nullptr && b != nullptr &&
                        std::memcmp(a, b, static_cast<std::size_t>(count) * 4) == 0);
    };
    for (std::size_t k = 0; k < i && steps[i].bytes != 0; ++k) {
      const GraphSpec::Step& other = spec.steps[k];
      if (other.kind != own.kind || steps[k].bytes != steps[i].bytes) continue;
      if (own.kind == StepKind::kInt8) {
        if (std::ranges::equal(own.network, other.network)) return k;
        continue;
      }
      const ValueRecord& x = values[static_cast<std::size_t>(own.operands[0])];
      const ValueRecord& before = values[static_cast<std::size_t>(other.operands[0])];
      const ValueRecord& y = values[static_cast<std::size_t>(own.value)];
      const ValueRecord& given = values[static_cast<std::size_t>(other.value)];
      if (x.positions != before.positions || x.width != before.width || y.width != given.width)
        continue;
      const bool layer = own.kind == StepKind::kFloat;
      const std::int64_t table = own.kind == StepKind::kLayerNorm ? x.width : x.size();
      if (same(own.weight, other.weight, layer ? x.width * y.width : table) &&
          same(own.bias, other.bias, layer ? y.width : table))
        return k;
    }
    return i;
  }

  void lay_out() {
    at = static_cast<std::int64_t>(sizeof(GraphHeader) + inputs.size() * sizeof(InputRecord) +
                                   values.size() * sizeof(ValueRecord) +
                                   outputs.size() * sizeof(std::uint32_t) +
                                   operands.size() * sizeof(std::uint32_t));
    at = aligned(at) + static_cast<std::int64_t>(steps.size() * sizeof(StepRecord));
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if (inputs[i].pixels == PixelKind::kTable)
        inputs[i].table =
            static_cast<std::uint64_t>(section(kGraphPixelValues * spec.inputs[i].channels * 4));
    for (std::size_t i = 0; i < values.size(); ++i)
      if (values[i].place == Place::kConstant)
        values[i].offset = static_cast<std::uint64_t>(section(values[i].size() * 4));
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const std::size_t twin = twin_of(i);
      steps[i].offset =
          twin < i ? steps[twin].offset
                   : static_cast<std::uint64_t>(section(static_cast<std::int64_t>(steps[i].bytes)));
    }
  }

  std::vector<std::byte> written() const {
    std::vector<std::byte> buffer(static_cast<std::size_t>(at));
    std::byte* to = buffer.data();
    const auto put = [&to](const void* data, std::size_t bytes) {
      if (bytes != 0) std::memcpy(to, data, bytes);
      to += bytes;
    };
    GraphHeader header{};
    header.magic = kGraphMagic;
    header.version = kGraphVersion;
    header.bytes = buffer.size();
    header.inputs = static_cast<std::uint32_t>(inputs.size());
    header.values = static_cast<std::uint32_t>(values.size());
    header.outputs = static_cast<std::uint32_t>(outputs.size());
    header.steps = static_cast<std::uint32_t>(steps.size());
    header.operands = static_cast<std::uint32_t>(operands.size());
    header.scratch = static_cast<std::uint64_t>(scratch);
    header.products = static_cast<std::uint64_t>(std::max<std::int64_t>(1, products));
    header.sample_bytes = header.scratch * 4;
    for (const ValueRecord& value : values)
      if (value.place == Place::kInput || value.place == Place::kOutput)
        header.sample_bytes += static_cast<std::uint64_t>(value.size()) * 4;
    put(&header, sizeof header);
    put(inputs.data(), inputs.size() * sizeof(InputRecord));
    put(values.data(), values.size() * sizeof(ValueRecord));
    put(outputs.data(), outputs.size() * sizeof(std::uint32_t));
    put(operands.data(), operands.size() * sizeof(std::uint32_t));
    to = buffer.data() + aligned(to - buffer.data());
    put(steps.data(), steps.size() * sizeof(StepRecord));
    const auto put_floats = [&buffer](std::uint64_t offset, const float* floats,
                                      std::int64_t count) {
      std::memcpy(buffer.data() + offset, floats, static_cast<std::size_t>(count) * 4);
    };
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if (inputs[i].pixels == PixelKind::kTable)
        put_floats(inputs[i].table, spec.inputs[i].table,
                   kGraphPixelValues * spec.inputs[i].channels);
    for (std::size_t i = 0; i < values.size(); ++i)
      if (values[i].place == Place::kConstant)
        put_floats(values[i].offset, spec.values[i].constant, values[i].size());
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const GraphSpec::Step& step = spec.steps[i];
      const ValueRecord& x = values[static_cast<std::size_t>(step.operands[0])];
      const std::uint64_t offset = steps[i].offset;
      if (step.kind == StepKind::kInt8) {
        std::memcpy(buffer.data() + offset, step.network.data(), step.network.size());
      } else if (step.kind == StepKind::kFloat) {
        const std::int64_t width = values[static_cast<std::size_t>(step.value)].width;
        auto* panels = reinterpret_cast<float*>(buffer.data() + offset);
        pack_float_panels(step.weight, x.width, width, panels);
        pack_float_bias(step.bias, width, panels + float_panel_bytes(x.width, width) / 4);
      } else if (steps[i].bytes != 0) {
        const std::int64_t count = step.kind == StepKind::kLayerNorm ? x.width : x.size();
        put_floats(offset, step.weight, count);
        if (step.kind != StepKind::kSlopes)
          put_floats(offset + static_cast<std::uint64_t>(aligned(count * 4)), step.bias, count);
      }
    }
    return buffer;
  }
};

}  // namespace

Result<std::vector<std::byte>> pack_graph(const GraphSpec& spec) {
  Packer packer{spec};
  if (Status bad = packer.check_all(); !bad.ok()) return bad;
  packer.place_values();
  packer.describe_steps();
  packer.lay_out();
  return packer.written();
}

}  // namespace fastmnist
