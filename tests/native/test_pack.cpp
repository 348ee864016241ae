// The packed layout, byte for byte as core/types.h draws it, and what view_network refuses.
#include <algorithm>
#include <array>
#include <numeric>

#include "check.h"
#include "pack/network.h"
#include "support.h"

namespace {

using namespace fastmnist;
using namespace support;

struct Packed {
  std::vector<Layer> layers;
  std::vector<float> tables;
  std::vector<std::uint8_t> zeros;
  NetworkSpec spec;
  std::vector<std::uint64_t> storage;  // 8-byte aligned

  std::span<std::byte> bytes() {
    return {reinterpret_cast<std::byte*>(storage.data()), storage.size() * 8};
  }
};

Packed packed_network(InputKind input, PixelKind pixels) {
  Random random(7);
  Packed p;
  p.layers.emplace_back(random, 12, 33);
  p.layers.emplace_back(random, 33, 5);
  p.tables = reals(random, 3 * 256, 0.0f, 1.0f);
  for (const Layer& layer : p.layers) p.spec.layers.push_back(layer.canonical());
  p.zeros.assign(12, 51);
  p.spec.layers[0].input_zeros = p.zeros.data();
  p.spec.input = input;
  p.spec.pixels = pixels;
  if (input == InputKind::kAffine) {
    p.spec.multiplier = p.tables.data();
    p.spec.offset = p.tables.data() + 12;
  }
  if (pixels == PixelKind::kTable) {
    p.spec.pixel_table = p.tables.data();
    p.spec.channels = 3;
  }
  p.storage.resize(static_cast<std::size_t>(check::value(packed_network_bytes(p.spec))) / 8);
  check::ok(pack_network(p.spec, p.bytes()));
  return p;
}

bool refused(std::span<const std::byte> bytes) {
  const Result<NetworkView> view = view_network(bytes);
  return view.status().text().starts_with("packed: not a packed network of this version (");
}

TEST(dense_layout_is_the_drawing) {
  Random random(1);
  for (const auto& [k, n] : {std::pair{1, 1}, {4, 16}, {63, 15}, {64, 16}, {65, 17}, {130, 50}}) {
    const Layer layer(random, k, n);
    const std::int64_t padded = (k + 63) / 64 * 64;
    const std::int64_t panels = (n + 15) / 16;
    const std::int64_t stride = padded * 16 + 192;
    const WeightLayout& layout = layout_of(WeightForm::kDense);
    CHECK(layout.bytes(0, k, n) == panels * stride);
    Guarded<std::byte> memory(static_cast<std::size_t>(panels * stride), Edge::kLast);
    std::memset(memory.data(), 0x5a, memory.values().size());
    layout.pack(layer.canonical(), 0, memory.data());
    const Weights view = layout.view(memory.data(), 0, k, n);
    CHECK(view.padded_inputs == padded);
    CHECK(view.dense.stride == stride);
    CHECK(view.epilogues == memory.data() + padded * 16);
    std::vector<std::byte> drawn(static_cast<std::size_t>(panels * stride), std::byte{0});
    for (std::int64_t p = 0; p < panels; ++p) {
      std::byte* panel = drawn.data() + p * stride;
      for (std::int64_t b = 0; b < padded / 4; ++b)
        for (std::int64_t j = 0; j < 16; ++j)
          for (std::int64_t i = 0; i < 4; ++i)
            if (16 * p + j < n && 4 * b + i < k)
              panel[64 * b + 4 * j + i] = static_cast<std::byte>(
                  layer.weight[static_cast<std::size_t>((16 * p + j) * k + 4 * b + i)]);
      for (std::int64_t j = 0; j < 16 && 16 * p + j < n; ++j) {
        const auto output = static_cast<std::size_t>(16 * p + j);
        const std::int8_t* row = layer.weight.data() + (16 * p + j) * k;
        const float bias = layer.bias.empty() ? 0.0f : layer.bias[output];
        const std::int32_t sum = std::accumulate(row, row + k, std::int32_t{0});
        std::memcpy(panel + padded * 16 + 4 * j, &bias, 4);
        std::memcpy(panel + padded * 16 + 64 + 4 * j, &layer.scale[output], 4);
        std::memcpy(panel + padded * 16 + 128 + 4 * j, &sum, 4);
      }
    }
    CHECK(std::memcmp(drawn.data(), memory.data(), drawn.size()) == 0);
  }
}

TEST(network_round_trip) {
  for (const auto& [input, pixels] : {std::pair{InputKind::kStatic, PixelKind::kNone},
                                      {InputKind::kStatic, PixelKind::kCodes},
                                      {InputKind::kAffine, PixelKind::kCodes},
                                      {InputKind::kDynamic, PixelKind::kNone},
                                      {InputKind::kDynamic, PixelKind::kTable}}) {
    Packed p = packed_network(input, pixels);
    const NetworkView view = check::value(view_network(p.bytes()));
    CHECK(view.layers() == 2);
    CHECK(view.inputs() == 12);
    CHECK(view.outputs() == 5);
    CHECK(view.widest() == 33);
    CHECK(view.input() == input);
    CHECK(view.pixels() == pixels);
    CHECK(view.channels() == (pixels == PixelKind::kTable ? 3 : 0));
    const std::size_t floats =
        input == InputKind::kAffine ? 24 : (pixels == PixelKind::kTable ? 768 : 0);
    CHECK(std::memcmp(view.tables(), p.tables.data(), floats * sizeof(float)) == 0);
    for (std::int64_t i = 0; i < 2; ++i) {
      const Layer& layer = p.layers[static_cast<std::size_t>(i)];
      const LayerRecord& record = view.record(i);
      CHECK(std::memcmp(&record.x_quantizer, &layer.x_quantizer, sizeof(Quantizer)) == 0);
      CHECK(std::memcmp(&record.clamp, &layer.clamp, sizeof(Clamp)) == 0);
      for (const auto& place : record.forms) CHECK(place.offset % 64 == 0);
      const WeightLayout& layout = layout_of(WeightForm::kDense);
      const auto bytes = static_cast<std::size_t>(layout.bytes(0, layer.inputs, layer.outputs));
      std::vector<std::byte> expected(bytes);
      layout.pack(layer.canonical(), 0, expected.data());
      const Weights packed = view.weights(i, WeightForm::kDense);
      CHECK(std::memcmp(packed.dense.panels, expected.data(), bytes) == 0);
    }
  }
}

TEST(foreign_buffers_are_refused) {
  Packed p = packed_network(InputKind::kDynamic, PixelKind::kTable);
  const std::span<std::byte> bytes = p.bytes();
  CHECK(!refused(bytes));
  CHECK(refused({}));
  for (std::size_t cut = 0; cut < bytes.size(); cut += cut < 256 ? 1 : 97) {
    Guarded<std::byte> memory(bytes.first(cut / 8 * 8), Edge::kLast);
    CHECK(refused(memory.values()));
  }
  std::vector<std::uint64_t> longer(p.storage);
  longer.push_back(0);
  CHECK(refused(std::as_bytes(std::span(longer))));
  CHECK(refused(std::as_bytes(std::span(longer)).subspan(4, bytes.size())));  // misaligned
}

TEST(zeros_of_the_inputs_are_kept_where_they_are_known) {
  Packed p = packed_network(InputKind::kStatic, PixelKind::kNone);
  const NetworkView view = check::value(view_network(p.bytes()));
  CHECK(std::ranges::equal(view.input_zeros(0), p.zeros));
  CHECK(view.input_zeros(1).empty());
}

// Every 32-bit word of the header and the records with hostile values, in memory that ends at a
// page that can't be read: either refused, or a view whose every layer lies inside the buffer.
TEST(mutated_headers_are_refused_or_harmless) {
  for (const auto& [input, pixels] : {std::pair{InputKind::kStatic, PixelKind::kCodes},
                                      {InputKind::kAffine, PixelKind::kNone},
                                      {InputKind::kDynamic, PixelKind::kTable}}) {
    Packed p = packed_network(input, pixels);
    const std::span<const std::byte> good = p.bytes();
    Guarded<std::byte> memory(good, Edge::kLast);
    for (std::size_t at = 0; at < sizeof(NetworkHeader) + sizeof(LayerRecord); at += 4) {
      std::uint32_t word = 0;
      std::memcpy(&word, good.data() + at, 4);
      for (const std::uint32_t hostile :
           {0u, 1u, 2u, 3u, 4u, 63u, 64u, 1024u, 1025u, 65536u, 65537u, 0x7fffffffu, 0x80000000u,
            0xffffffffu, word + 1, word - 1, word + 64, word ^ 0x01000000u}) {
        std::memcpy(memory.data() + at, &hostile, 4);
        const Result<NetworkView> viewed = view_network(memory.values());
        if (!viewed.ok()) continue;
        const NetworkView& view = *viewed;
        const std::byte* end = memory.data() + good.size();
        for (std::int64_t i = 0; i < view.layers(); ++i) {
          const std::span<const std::uint8_t> zeros = view.input_zeros(i);
          CHECK(zeros.empty() || std::accumulate(zeros.begin(), zeros.end(), 0) >= 0);  // reads
          const Weights dense = view.weights(i, WeightForm::kDense);
          CHECK(dense.inputs >= 1 && dense.outputs >= 1);
          CHECK(dense.dense.panels +
                    layout_of(WeightForm::kDense).bytes(0, dense.inputs, dense.outputs) <=
                end);
        }
        CHECK(view.pixels() != PixelKind::kTable || view.inputs() % view.channels() == 0);
        CHECK(view.pixels() != PixelKind::kCodes || view.input() != InputKind::kDynamic);
      }
      std::memcpy(memory.data() + at, good.data() + at, 4);
    }
  }
}

TEST(wrong_specs_are_refused) {
  const auto fails = [](auto change) {
    Packed p = packed_network(InputKind::kAffine, PixelKind::kNone);
    change(p);
    return !packed_network_bytes(p.spec).ok();
  };
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(!fails([](Packed&) {}));
  CHECK(fails([](Packed& p) { p.spec.layers.clear(); }));
  CHECK(fails([](Packed& p) { p.spec.layers.resize(2000, p.spec.layers[0]); }));
  CHECK(fails([](Packed& p) { p.spec.layers[1].inputs = 32; }));
  CHECK(fails([](Packed& p) { p.spec.layers[0].inputs = 0; }));
  CHECK(fails([](Packed& p) { p.spec.layers[0].inputs = 65537; }));
  CHECK(fails([](Packed& p) { p.spec.layers[0].outputs = 0; }));
  CHECK(fails([](Packed& p) { p.spec.layers[0].x_quantizer.scale = 0.0f; }));
  CHECK(fails([](Packed& p) { p.spec.layers[0].x_quantizer.scale = 1e-40f; }));
  CHECK(fails([](Packed& p) { p.spec.layers[0].x_quantizer.zero_point = 256; }));
  CHECK(fails([](Packed& p) { p.spec.layers[0].x_quantizer.zero_point = -1; }));
  CHECK(fails([=](Packed& p) { p.layers[0].scale[3] = nan; }));
  CHECK(fails([](Packed& p) { p.layers[0].scale[3] = 0.0f; }));
  CHECK(fails([=](Packed& p) { p.layers[0].scale[3] = -1.0f; }));
  CHECK(!fails([](Packed& p) { p.layers[0].scale[3] = 1e-42f; }));
  CHECK(fails([=](Packed& p) {
    p.layers[0].bias.assign(33, inf);
    p.spec.layers[0].bias = p.layers[0].bias.data();
  }));
  CHECK(fails([](Packed& p) { p.spec.layers[0].clamp = {1.0f, 0.0f}; }));
  CHECK(fails([=](Packed& p) { p.spec.layers[0].clamp = {nan, 0.0f}; }));
  CHECK(fails([=](Packed& p) { p.tables[2] = nan; }));
  CHECK(fails([=](Packed& p) { p.tables[14] = inf; }));
  CHECK(fails([](Packed& p) { p.spec.pixels = PixelKind::kTable; }));
  CHECK(fails([](Packed& p) {
    p.spec.input = InputKind::kDynamic;
    p.spec.pixels = PixelKind::kTable;
    p.spec.pixel_table = p.tables.data();
    p.spec.channels = 5;
  }));
  CHECK(fails([](Packed& p) {
    p.spec.input = InputKind::kDynamic;
    p.spec.pixels = PixelKind::kCodes;
  }));
  Packed p = packed_network(InputKind::kAffine, PixelKind::kNone);
  CHECK(pack_network(p.spec, p.bytes().first(64)).text() ==
        "buffer: expected " + std::to_string(p.bytes().size()) + " bytes, got 64");
  p.spec.layers[1].clamp = {2.0f, 1.0f};
  CHECK(packed_network_bytes(p.spec).status().text() ==
        "layers[1].clamp: expected lo <= hi, got 2, 1");
}

// core/types.h's drawings, by hand: three outputs, 300 inputs, seven weights.
TEST(sparse_layouts_are_the_drawing) {
  Random random(11);
  Layer layer(random, 300, 3);
  std::fill(layer.weight.begin(), layer.weight.end(), std::int8_t{0});
  const auto weight = [&layer](std::int64_t n, std::int64_t k) -> std::int8_t& {
    return layer.weight[static_cast<std::size_t>(n * 300 + k)];
  };
  weight(0, 5) = 11;
  for (const int k : {6, 7, 8, 9, 10}) weight(1, k) = static_cast<std::int8_t>(-k);
  weight(2, 299) = 33;
  const PackedWeights packed(layer, WeightForm::kBitmask, Edge::kLast);
  CHECK(packed.count() == 7);
  const BitmaskPanels& bitmask = packed.view().bitmask;
  // Block 1 holds inputs 4 to 7: bit 4 * output + place.
  CHECK(bitmask.masks[0] == 0);
  CHECK(bitmask.masks[1] == ((1ull << 1) | (1ull << 6) | (1ull << 7)));
  CHECK(bitmask.masks[2] == ((1ull << 4) | (1ull << 5) | (1ull << 6)));
  CHECK(bitmask.masks[74] == 1ull << 11);
  const std::int8_t expected[] = {11, -6, -7, -8, -9, -10, 33};
  CHECK(std::equal(std::begin(expected), std::end(expected), bitmask.values));
  CHECK(bitmask.value_starts[0] == 0);
  for (const auto& [form, shape] :
       {std::pair{WeightForm::kPicks, kPickShape}, {WeightForm::kWindows, kWindowShape}}) {
    const PackedWeights picked(layer, form, Edge::kLast);
    CHECK(picked.count() == 3);  // 4 and 1 of output 1, and the last input
    const PickPanels& picks = picked.view().picks;
    CHECK(picks.starts[0] == 0 && picks.starts[1] == 3);
    CHECK(picks.window_starts[0] == 5);
    CHECK(picks.window_starts[1] == 10);
    CHECK(picks.window_starts[2] == 300 - shape.window);  // the last window there is
    const auto pick = [&picks, &shape = shape](int block, int n, int slot) {
      return static_cast<int>(picks.blocks[block * shape.block_bytes + 4 * n + slot]) -
             shape.first_pick;
    };
    const auto value = [&picks, &shape = shape](int block, int n, int slot) {
      return static_cast<std::int8_t>(
          picks.blocks[block * shape.block_bytes + shape.picks + 4 * n + slot]);
    };
    CHECK(pick(0, 0, 0) == 0 && value(0, 0, 0) == 11);
    CHECK(pick(0, 1, 3) == 4 && value(0, 1, 3) == -9);
    CHECK(pick(1, 1, 0) == 0 && value(1, 1, 0) == -10);
    CHECK(pick(2, 2, 0) == shape.window - 1 && value(2, 2, 0) == 33);
    CHECK(value(0, 2, 0) == 0);
  }
}

TEST(sparse_forms_are_tried_where_they_could_pay) {
  Random random(12);
  Layer layer(random, 256, 64);
  const WeightForm wanted[] = {WeightForm::kBitmask, WeightForm::kPicks, WeightForm::kWindows};
  const auto tried = [&] {
    std::vector<WeightForm> forms;
    for (const FormSize& size : forms_worth_trying(layer.canonical(), wanted))
      forms.push_back(size.form);
    return forms;
  };
  const auto thin = [&](std::int64_t percent) {
    for (std::int8_t& w : layer.weight)
      if (integer(random, 0, 99) < percent) w = 0;
  };
  CHECK(tried().empty());
  thin(50);
  CHECK(tried() == std::vector{WeightForm::kBitmask});
  thin(90);
  CHECK(tried().size() == 3);
  for (const WeightForm form : wanted) {
    PackedWeights packed(layer, form, Edge::kLast);
    const auto section = std::as_bytes(packed.section());
    CHECK(checked_count(form, section, 256, 64) == packed.count());
    // A section that says something else about itself is none.
    reinterpret_cast<SectionHeader*>(packed.section().data())->count += 64;
    CHECK(checked_count(form, section, 256, 64) == -1);
    CHECK(checked_count(form, section.first(32), 256, 64) == -1);
  }
  thin(100);
  CHECK(tried().size() == 3);
}

}  // namespace
