// run_network against reference functions composed layer by layer.
#include <algorithm>
#include <string>

#include "check.h"
#include "core/threads.h"
#include "runtime/executor.h"
#include "support.h"

namespace {

using namespace fastmnist;
using namespace support;

struct Network {
  std::vector<Layer> layers;
  std::vector<float> multiplier, offset, pixel_table;
  InputKind input;
  PixelKind pixels;
  std::int64_t channels = 0;
  std::vector<std::uint64_t> storage;

  Network(Random& random, const std::vector<std::int64_t>& widths, InputKind kind, PixelKind pixel)
      : input(kind), pixels(pixel) {
    for (std::size_t i = 0; i + 1 < widths.size(); ++i)
      layers.emplace_back(random, widths[i], widths[i + 1]);
    multiplier = reals(random, widths[0], -50.0f, 50.0f);
    offset = reals(random, widths[0], 0.0f, 255.0f);
    if (pixel == PixelKind::kTable) channels = widths[0] % 3 == 0 ? 3 : 1;
    pixel_table = reals(random, channels * 256, -2.0f, 2.0f);
    NetworkSpec spec;
    for (const Layer& layer : layers) spec.layers.push_back(layer.canonical());
    spec.input = kind;
    spec.pixels = pixel;
    spec.multiplier = multiplier.data();
    spec.offset = offset.data();
    spec.pixel_table = pixel_table.data();
    spec.channels = channels;
    storage.resize(static_cast<std::size_t>(check::value(packed_network_bytes(spec))) / 8);
    check::ok(
        pack_network(spec, {reinterpret_cast<std::byte*>(storage.data()), storage.size() * 8}));
  }

  std::int64_t inputs() const { return layers.front().inputs; }
  std::int64_t outputs() const { return layers.back().outputs; }
  NetworkView view() const { return check::value(view_network(std::as_bytes(std::span(storage)))); }

  // One row, by reference functions only.
  std::vector<float> expected(const float* x) const {
    std::vector<float> values(x, x + inputs());
    std::vector<std::uint8_t> codes(values.size());
    bool bad = false;
    if (input == InputKind::kStatic)
      bad = reference::quantize(x, inputs(), layers[0].x_quantizer, codes.data());
    else if (input == InputKind::kAffine)
      bad = reference::quantize_affine(x, inputs(), multiplier.data(), offset.data(), codes.data());
    if (input != InputKind::kDynamic) return from_codes(codes, bad);
    for (const Layer& layer : layers) {
      const RowRange range = reference::row_range(values.data(), layer.inputs);
      bad = bad || !range.finite;
      const Quantizer quantizer = quantizer_from_range(range.lo, range.hi);
      codes.resize(static_cast<std::size_t>(layer.inputs));
      reference::quantize(values.data(), layer.inputs, quantizer, codes.data());
      values.resize(static_cast<std::size_t>(layer.outputs));
      reference::linear_f32(layer.reference(), codes.data(), 1, &quantizer, values.data());
    }
    if (bad) std::fill(values.begin(), values.end(), std::nanf(""));
    return values;
  }

  std::vector<float> expected(const std::uint8_t* pixel) const {
    if (pixels == PixelKind::kCodes) return from_codes({pixel, pixel + inputs()}, false);
    std::vector<float> values(static_cast<std::size_t>(inputs()));
    for (std::int64_t k = 0; k < inputs(); ++k)
      values[static_cast<std::size_t>(k)] =
          pixel_table[static_cast<std::size_t>(k / (inputs() / channels) * 256 + pixel[k])];
    return expected(values.data());
  }

  std::vector<float> from_codes(std::vector<std::uint8_t> codes, bool bad) const {
    for (std::size_t i = 0; i + 1 < layers.size(); ++i) {
      std::vector<std::uint8_t> next(static_cast<std::size_t>(layers[i].outputs));
      reference::linear_u8(layers[i].reference(), codes.data(), 1, &layers[i].x_quantizer,
                           layers[i + 1].x_quantizer, next.data());
      codes = std::move(next);
    }
    std::vector<float> logits(static_cast<std::size_t>(outputs()));
    reference::linear_f32(layers.back().reference(), codes.data(), 1, &layers.back().x_quantizer,
                          logits.data());
    if (bad) std::fill(logits.begin(), logits.end(), std::nanf(""));
    return logits;
  }
};

template <typename T>
void check_network(const Network& network, const std::vector<T>& x, RowType type,
                   const std::string& where) {
  const std::int64_t rows = static_cast<std::int64_t>(x.size()) / network.inputs();
  for (const Edge edge : {Edge::kFirst, Edge::kLast}) {
    Guarded<T> guarded(std::span<const T>(x), edge);
    Guarded<float> logits(static_cast<std::size_t>(rows * network.outputs()), edge);
    check::ok(run_network(network.view(), {type, guarded.data(), rows}, logits.data()));
    for (std::int64_t m = 0; m < rows; ++m) {
      const auto got = logits.values().subspan(static_cast<std::size_t>(m * network.outputs()),
                                               static_cast<std::size_t>(network.outputs()));
      CHECK_IN(where + " row " + std::to_string(m),
               same_bits(got, network.expected(x.data() + m * network.inputs())));
    }
  }
}

TEST(network_equals_composed_reference) {
  Random random(5);
  const std::string before = check::value(active_kernels())->name;
  const std::vector<std::int64_t> shapes[] = {
      {7, 3}, {64, 16}, {12, 33, 5}, {65, 70, 17, 10}, {3, 9, 1, 4, 2}};
  for (const Rung& rung : runnable()) {
    check::ok(set_active_kernels(rung.name).status());
    for (const auto& widths : shapes)
      for (const auto& [input, pixels] : {std::pair{InputKind::kStatic, PixelKind::kCodes},
                                          {InputKind::kAffine, PixelKind::kNone},
                                          {InputKind::kDynamic, PixelKind::kTable}})
        for (const std::int64_t rows : {1, 5, 48, 49, 101}) {
          const Network network(random, widths, input, pixels);
          std::vector<float> x = reals(random, rows * network.inputs(), -3.0f, 3.0f);
          for (float& v : x)
            if (integer(random, 0, 400) == 0)
              v = integer(random, 0, 1) != 0 ? std::nanf("")
                                             : std::numeric_limits<float>::infinity();
          check_network(network, x, RowType::kFloat32, rung.name);
          if (pixels != PixelKind::kNone)
            check_network(network, integers<std::uint8_t>(random, rows * network.inputs(), 0, 255),
                          RowType::kPixels, rung.name);
        }
  }
  check::ok(set_active_kernels(before).status());
}

TEST(threads_and_batch_splits_keep_every_bit) {
  Random random(6);
  for (const InputKind input : {InputKind::kStatic, InputKind::kAffine, InputKind::kDynamic}) {
    const Network network(random, {256, 200, 30}, input, PixelKind::kNone);
    const std::int64_t rows = 401;  // 23 million products: several threads' worth
    const std::vector<float> x = reals(random, rows * 256, -2.0f, 2.0f);
    std::vector<float> one_by_one(static_cast<std::size_t>(rows * 30));
    for (std::int64_t m = 0; m < rows; ++m)
      check::ok(run_network(network.view(), {RowType::kFloat32, x.data() + m * 256, 1},
                            one_by_one.data() + m * 30));
    for (const int threads : {1, 2, 3, 8}) {
      check::ok(set_num_threads(threads));
      std::vector<float> logits(one_by_one.size());
      check::ok(run_network(network.view(), {RowType::kFloat32, x.data(), rows}, logits.data()));
      CHECK_IN(std::to_string(threads) + " threads", same_bits(logits, one_by_one));
    }
    check::ok(set_num_threads(0));
  }
}

TEST(no_rows_and_unknown_pixels) {
  Random random(7);
  const Network network(random, {4, 2}, InputKind::kStatic, PixelKind::kNone);
  check::ok(run_network(network.view(), {RowType::kFloat32, nullptr, 0}, nullptr));
  const std::uint8_t pixels[4] = {};
  float logits[2] = {1.0f, 2.0f};
  const Status status = run_network(network.view(), {RowType::kPixels, pixels, 1}, logits);
  CHECK(status.text().starts_with("x: expected float32 rows, ") && !status.is_out_of_memory());
  CHECK(logits[0] == 1.0f && logits[1] == 2.0f);
}

}  // namespace
