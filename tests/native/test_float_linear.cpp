// Float32 layers: every instruction set's kernel against the reference, bit by bit, in memory that
// faults on the first access outside; and weights through panels and back.
#include <cmath>
#include <string>

#include "check.h"
#include "pack/float_panels.h"
#include "support.h"

namespace {

using namespace fastmnist;
using namespace support;

constexpr float kSentinel = -12345.0f;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kSpecial[] = {
    0.0f,     -0.0f,        kInfinity,    -kInfinity, std::numeric_limits<float>::quiet_NaN(),
    FLT_MIN,  -FLT_MIN,     1e-42f,       -1e-42f,    FLT_MAX,
    -FLT_MAX, FLT_TRUE_MIN, -FLT_TRUE_MIN};

// One in `rarity` values is special; 0: none.
std::vector<float> draw(Random& random, std::int64_t count, std::int64_t rarity) {
  std::vector<float> values = reals(random, count, -2.0f, 2.0f);
  if (rarity > 0)
    for (float& v : values)
      if (integer(random, 1, rarity) == 1)
        v = kSpecial[integer(random, 0, static_cast<std::int64_t>(std::size(kSpecial)) - 1)];
  return values;
}

struct Panels {
  Guarded<float> weights;
  Guarded<float> bias;

  Panels(const reference::FloatLinear& layer, Edge edge)
      : weights(count(float_panel_bytes(layer.inputs, layer.outputs)), edge),
        bias(count(float_bias_bytes(layer.outputs)), edge) {
    pack_float_panels(layer.weight, layer.inputs, layer.outputs, weights.data());
    pack_float_bias(layer.bias, layer.outputs, bias.data());
  }
  static std::size_t count(std::int64_t bytes) {
    return static_cast<std::size_t>(bytes) / sizeof(float);
  }
};

struct Shape {
  std::int64_t rows, inputs, outputs;
};

void check_shape(Random& random, const Shape& shape, Edge edge, std::int64_t rarity) {
  const auto [rows, k, n] = shape;
  const std::vector<float> x_values = draw(random, rows * k, rarity * 40);
  const std::vector<float> weight = draw(random, n * k, rarity * 90);
  const std::vector<float> bias = draw(random, n, rarity * 5);
  const Clamp clamps[] = {{-kInfinity, kInfinity}, {0.0f, kInfinity}, {-0.0f, 6.0f}};
  const reference::FloatLinear layer{weight.data(),
                                     integer(random, 0, 3) > 0 ? bias.data() : nullptr, k, n,
                                     clamps[integer(random, 0, 2)]};
  std::vector<float> expected(static_cast<std::size_t>(rows * n));
  reference::float_linear(layer, x_values.data(), rows, expected.data());

  const Panels panels(layer, edge);
  const std::int64_t x_stride = k + integer(random, 0, 2) * 3;
  const std::int64_t y_stride = n + integer(random, 0, 2) * 5;
  // The last row ends where its values end, not where its stride would.
  Guarded<float> x(static_cast<std::size_t>((rows - 1) * x_stride + k), edge);
  for (std::int64_t m = 0; m < rows; ++m)
    std::memcpy(x.data() + m * x_stride, x_values.data() + m * k,
                static_cast<std::size_t>(k) * sizeof(float));
  Guarded<float> y(static_cast<std::size_t>((rows - 1) * y_stride + n), edge);
  for (const Rung& rung : runnable()) {
    const std::string where = std::string(rung.name) + " " + std::to_string(rows) + "x" +
                              std::to_string(k) + "x" + std::to_string(n);
    for (float& v : y.values()) v = kSentinel;
    rung.kernels->float_linear.linear({x.data(), x_stride, rows, panels.weights.data(),
                                       panels.bias.data(), k, n, layer.clamp.lo, layer.clamp.hi,
                                       y.data(), y_stride});
    for (std::int64_t m = 0; m < rows; ++m)
      for (std::int64_t j = 0; j < y_stride && m * y_stride + j < std::ssize(y.values()); ++j)
        CHECK_IN(where,
                 same_bits(y.data()[m * y_stride + j],
                           j < n ? expected[static_cast<std::size_t>(m * n + j)] : kSentinel));
  }
}

TEST(float_linear_equals_reference) {
  Random random(11);
  for (int repeat = 0; repeat < 250; ++repeat)
    check_shape(random,
                {integer(random, 1, 40), integer(random, 0, 3) == 0 ? 1 : integer(random, 2, 140),
                 integer(random, 1, 100)},
                repeat % 2 == 0 ? Edge::kFirst : Edge::kLast, repeat % 3);
}

// Few rows take many panels at once: every number of either.
TEST(few_rows_of_floats_equal_reference) {
  Random random(12);
  for (std::int64_t rows = 1; rows <= 9; ++rows)
    for (std::int64_t panels = 1; panels <= 13; ++panels)
      check_shape(random, {rows, 7, panels * 16 - integer(random, 0, 15)}, Edge::kLast, 1);
}

// Chains that are interrupted, rows in several strips.
TEST(long_chains_of_floats_equal_reference) {
  Random random(13);
  for (const Shape shape : {Shape{1, 4096, 33}, Shape{40, 4096, 20}, Shape{5, 1025, 70},
                            Shape{130, 1153, 50}, Shape{51, 3000, 17}, Shape{100, 2049, 10}})
    for (const std::int64_t rarity : {0, 7}) check_shape(random, shape, Edge::kLast, rarity);
}

TEST(float_panels_come_back) {
  Random random(14);
  for (const Shape shape : {Shape{0, 1, 1}, Shape{0, 7, 16}, Shape{0, 3, 17}, Shape{0, 20, 50}}) {
    const std::vector<float> weight = draw(random, shape.inputs * shape.outputs, 3);
    const std::vector<float> bias = draw(random, shape.outputs, 3);
    const Panels panels({weight.data(), bias.data(), shape.inputs, shape.outputs, {}}, Edge::kLast);
    std::vector<float> back(weight.size(), kSentinel);
    unpack_float_panels(panels.weights.data(), shape.inputs, shape.outputs, back.data());
    CHECK(std::memcmp(back.data(), weight.data(), weight.size() * sizeof(float)) == 0);
    CHECK(std::memcmp(panels.bias.data(), bias.data(), bias.size() * sizeof(float)) == 0);
    const std::int64_t padded = (shape.outputs + 15) / 16 * 16;
    CHECK(std::ssize(panels.bias.values()) == padded);
    CHECK(std::ssize(panels.weights.values()) == padded * shape.inputs);
    for (std::int64_t n = shape.outputs; n < padded; ++n) {
      CHECK(panels.bias.data()[n] == 0.0f);
      for (std::int64_t k = 0; k < shape.inputs; ++k)
        CHECK(panels.weights.data()[(n / 16 * shape.inputs + k) * 16 + n % 16] == 0.0f);
    }
  }
}

TEST(every_set_has_its_float_kernel) {
  for (const Rung& rung : runnable()) {
    const std::string isa = rung.kernels->float_linear.isa;
    const std::string expected = std::string(rung.name) == "amx_int8" ? "avx512_vnni" : rung.name;
    CHECK_IN(rung.name, isa == expected);
  }
}

}  // namespace
