// Kernels of every instruction set that runs here against the reference, bit by bit, in memory
// that faults on the first access outside.
#include <cmath>
#include <set>
#include <string>

#include "check.h"
#include "runtime/linear.h"
#include "support.h"

namespace {

using namespace fastmnist;
using namespace support;

constexpr float kSentinel = -12345.0f;

// The kernels that check_linear has compared with the reference, as it names them.
std::set<std::string> g_checked;

// One kernel, whatever it suits, where it can.
void run_both(const LinearKernel& kernel, LinearArgs args, LinearShape shape, float* floats,
              std::uint8_t* codes) {
  // A hint to read anything does no harm, whatever is there.
  args.prefetch = args.x;
  args.prefetch_bytes = args.x_end - args.x + 5000;
  const UnitGuard guard(kernel.unit);
  for (const bool codes_out : {false, true}) {
    shape.codes_out = codes_out;
    if (!can(kernel, shape)) continue;
    Guarded<std::byte> scratch(static_cast<std::size_t>(scratch_bytes(kernel, shape) + 64),
                               Edge::kFirst);
    args.scratch = scratch.data();
    args.y = codes_out ? static_cast<void*>(codes) : floats;
    run_linear(kernel, codes_out ? LinearOutput::kCodes : LinearOutput::kFloats, args);
  }
}

void check_linear(const KernelTable& kernels, const LinearKernel& kernel, Random& random,
                  std::int64_t rows, std::int64_t k, std::int64_t n, Edge edge, std::int64_t x_gap,
                  std::int64_t y_gap) {
  const std::string name = std::string(kernels.name) + " " + name_of(kernel);
  const std::string where =
      name + " " + std::to_string(rows) + "x" + std::to_string(k) + "x" + std::to_string(n);
  Layer layer(random, k, n);
  if (kernel.form == WeightForm::kNibbles && integer(random, 0, 1) != 0)
    layer.draw_of_few_values(random);
  else if (kernel.form == WeightForm::kNibbles)
    layer.draw_up_to(random, 7);
  else if (const std::int64_t bits = integer(random, 3, 6); bits < 5)
    layer.draw_up_to(random, 1 << bits);
  const std::int64_t zeros = integer(random, 0, 10);  // tenths of the weights
  for (std::int8_t& w : layer.weight)
    if (integer(random, 0, 9) < zeros) w = 0;
  const PackedWeights packed(layer, kernel.form, edge);
  const bool per_row = integer(random, 0, 1) != 0;
  std::vector<Quantizer> quantizers;
  for (std::int64_t m = 0; m < rows; ++m)
    quantizers.push_back(per_row || m == 0 ? Layer(random, 1, 1).x_quantizer : quantizers[0]);
  Guarded<Quantizer> guarded_quantizers(std::span<const Quantizer>(quantizers), edge);
  const std::int64_t x_stride = k + x_gap;
  const std::int64_t y_stride = n + y_gap;
  const std::vector<std::uint8_t> codes = integers<std::uint8_t>(random, rows * k, 0, 255);
  // The last row ends where its codes end, not where its stride would.
  Guarded<std::uint8_t> x(static_cast<std::size_t>((rows - 1) * x_stride + k), edge);
  for (std::int64_t m = 0; m < rows; ++m)
    std::memcpy(x.data() + m * x_stride, codes.data() + m * k, static_cast<std::size_t>(k));
  const auto y_size = static_cast<std::size_t>((rows - 1) * y_stride + n);
  Guarded<float> y(y_size, edge);
  Guarded<std::uint8_t> q(y_size, edge);
  for (float& v : y.values()) v = kSentinel;
  for (std::uint8_t& v : q.values()) v = 0xa5;

  LinearArgs args{};
  args.x = x.data();
  args.x_stride = x_stride;
  args.x_begin = x.data();
  args.x_end = x.data() + (rows - 1) * x_stride + k;
  args.rows = rows;
  args.w = packed.view();
  args.x_quantizer = quantizers[0];
  args.row_quantizers = per_row ? guarded_quantizers.data() : nullptr;
  args.clamp = layer.clamp;
  args.y_stride = y_stride;
  const bool no_zero_point = integer(random, 0, 1) != 0;
  args.y_quantizer =
      make_quantizer(real(random, 1e-3f, 10.0f),
                     no_zero_point ? 0 : static_cast<std::int32_t>(integer(random, 0, 255)));

  std::vector<float> expected(static_cast<std::size_t>(rows * n));
  std::vector<std::uint8_t> expected_codes(expected.size());
  reference::linear_f32(layer.reference(), codes.data(), rows, quantizers.data(), expected.data());
  reference::linear_u8(layer.reference(), codes.data(), rows, quantizers.data(), args.y_quantizer,
                       expected_codes.data());
  args.y_bounded = true;
  for (const float value : expected)
    args.y_bounded = args.y_bounded &&
                     std::abs(value) * args.y_quantizer.inv_scale < static_cast<float>(1 << 30);
  LinearShape shape{rows, k, n, false, per_row, layer.most_weight()};
  run_both(kernel, args, shape, y.data(), q.data());
  const bool floats = can(kernel, shape);
  shape.codes_out = true;
  const bool to_codes = can(kernel, shape);
  if (floats || to_codes) g_checked.insert(name);
  for (std::int64_t m = 0; m < rows; ++m) {
    for (std::int64_t j = 0; j < n; ++j) {
      if (floats)
        CHECK_IN(where, same_bits(y.data()[m * y_stride + j],
                                  expected[static_cast<std::size_t>(m * n + j)]));
      if (to_codes)
        CHECK_IN(where,
                 q.data()[m * y_stride + j] == expected_codes[static_cast<std::size_t>(m * n + j)]);
    }
    for (std::int64_t j = n; j < y_stride && m + 1 < rows; ++j) {
      CHECK_IN(where, y.data()[m * y_stride + j] == kSentinel);
      CHECK_IN(where, q.data()[m * y_stride + j] == 0xa5);
    }
  }
}

std::span<const LinearKernel> linears(const Rung& rung) {
  return {rung.kernels->linears, static_cast<std::size_t>(rung.kernels->linear_count)};
}

TEST(linear_equals_reference) {
  Random random(2);
  const std::int64_t sizes[] = {1,  2,  3,  4,   5,   15,  16,  17,  31,  63,
                                64, 65, 97, 127, 128, 130, 193, 256, 320, 450};
  const std::int64_t batches[] = {1,  2,  3,  4,  5,  7,  13, 15, 16, 17,
                                  29, 31, 32, 33, 47, 64, 65, 80, 97, 130};
  for (const Rung& rung : runnable())
    for (const LinearKernel& kernel : linears(rung))
      for (int repeat = 0; repeat < 250; ++repeat) {
        const std::int64_t k = sizes[integer(random, 0, 19)];
        // Rows that all start at multiples of 64 are read in other ways.
        const std::int64_t to_line = (64 - k % 64) % 64;
        check_linear(*rung.kernels, kernel, random, batches[integer(random, 0, 19)], k,
                     sizes[integer(random, 0, 19)], repeat % 2 == 0 ? Edge::kFirst : Edge::kLast,
                     repeat % 3 == 0 ? to_line : integer(random, 0, 3) * 5,
                     integer(random, 0, 3) * 3);
      }
}

// Weights that leave the second-level cache go by other loops.
TEST(large_layers_equal_reference) {
  Random random(7);
  struct Size {
    std::int64_t rows, k, n;
  };
  for (const Rung& rung : runnable())
    for (const LinearKernel& kernel : linears(rung)) {
      if (kernel.scratch_bytes == nullptr) continue;
      for (const Size size : {Size{33, 2100, 650}, Size{48, 1025, 1290}, Size{95, 1300, 1030},
                              Size{40, 700, 2000}, Size{300, 2048, 642}})
        check_linear(*rung.kernels, kernel, random, size.rows, size.k, size.n, Edge::kLast,
                     size.rows % 2 == 0 ? 0 : (64 - size.k % 64) % 64, 3);
    }
}

// After the two above: a kernel that can compute none of their shapes was not tested by them.
TEST(every_kernel_was_checked) {
  if (g_checked.empty()) return;  // they were not asked for
  for (const Rung& rung : runnable())
    for (const LinearKernel& kernel : linears(rung)) {
      const std::string name = std::string(rung.name) + " " + name_of(kernel);
      CHECK_IN(name, g_checked.count(name) == 1);
    }
}

TEST(longest_sums_are_exact) {
  constexpr std::int64_t k = kMaxInputs;
  Random random(3);
  for (const int weight : {-128, -127, 127, 8, -8, 16, -16}) {
    Layer layer(random, 1, 1);
    layer = Layer(random, k, 17);
    layer.weight.assign(static_cast<std::size_t>(k * 17), static_cast<std::int8_t>(weight));
    layer.scale.assign(17, 1.0f);
    layer.bias.clear();
    layer.clamp = {-std::numeric_limits<float>::infinity(), std::numeric_limits<float>::infinity()};
    const std::vector<std::uint8_t> codes(static_cast<std::size_t>(k), 255);
    Guarded<std::uint8_t> x(std::span<const std::uint8_t>(codes), Edge::kLast);
    for (const Rung& rung : runnable()) {
      Guarded<float> y(17, Edge::kLast);
      Guarded<std::uint8_t> q(17, Edge::kLast);
      LinearArgs args{};
      args.x = x.data();
      args.x_stride = k;
      args.x_begin = x.data();
      args.x_end = x.data() + k;
      args.rows = 1;
      args.x_quantizer = make_quantizer(1.0f, 0);
      args.clamp = layer.clamp;
      args.y_stride = 17;
      args.y_quantizer = make_quantizer(1.0f, 0);
      for (const LinearKernel& kernel : linears(rung)) {
        const PackedWeights packed(layer, kernel.form, Edge::kLast);
        args.w = packed.view();
        const LinearShape shape{1, k, 17, false, false, layer.most_weight()};
        if (!can(kernel, shape)) continue;
        run_both(kernel, args, shape, y.data(), q.data());
        for (const float value : y.values())
          CHECK_IN(rung.name, value == static_cast<float>(k * 255 * weight));
      }
    }
  }
}

TEST(vectors_equal_reference) {
  Random random(4);
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float special[] = {0.0f,    -0.0f,    inf,          -inf,          nan,     -nan,
                           FLT_MIN, -FLT_MIN, FLT_TRUE_MIN, -FLT_TRUE_MIN, FLT_MAX, -FLT_MAX,
                           0.5f,    1.5f,     2.5f,         -0.5f};
  for (const Rung& rung : runnable()) {
    for (std::int64_t n = 0; n < 70; ++n) {
      for (const Edge edge : {Edge::kFirst, Edge::kLast}) {
        const auto size = static_cast<std::size_t>(n);
        std::vector<float> values = reals(random, n, -300.0f, 300.0f);
        if (n % 3 == 1)
          for (float& v : values)
            if (integer(random, 0, 3) == 0) v = special[integer(random, 0, 15)];
        Guarded<float> x(std::span<const float>(values), edge);
        Guarded<float> a(std::span<const float>(reals(random, n, -2.0f, 2.0f)), edge);
        Guarded<float> b(std::span<const float>(reals(random, n, -99.0f, 300.0f)), edge);
        Guarded<std::uint8_t> q(size, edge);
        Guarded<float> back(size, edge);
        std::vector<std::uint8_t> expected(size);
        std::vector<float> expected_back(size);
        const Quantizer quantizer = Layer(random, 1, 1).x_quantizer;

        CHECK_IN(rung.name, rung.kernels->rows.quantize(x.data(), n, quantizer, q.data()) ==
                                reference::quantize(x.data(), n, quantizer, expected.data()));
        CHECK_IN(rung.name, n == 0 || std::memcmp(q.data(), expected.data(), size) == 0);
        rung.kernels->rows.dequantize(q.data(), n, quantizer, back.data());
        reference::dequantize(q.data(), n, quantizer, expected_back.data());
        CHECK_IN(rung.name, same_bits(back.values(), expected_back));

        CHECK_IN(rung.name,
                 rung.kernels->rows.quantize_affine(x.data(), n, a.data(), b.data(), q.data()) ==
                     reference::quantize_affine(x.data(), n, a.data(), b.data(), expected.data()));
        CHECK_IN(rung.name, n == 0 || std::memcmp(q.data(), expected.data(), size) == 0);

        const RowRange range = rung.kernels->rows.row_range(x.data(), n);
        const RowRange expected_range = reference::row_range(x.data(), n);
        CHECK_IN(rung.name, same_bits(range.lo, expected_range.lo));
        CHECK_IN(rung.name, same_bits(range.hi, expected_range.hi));
        CHECK_IN(rung.name, range.finite == expected_range.finite);
      }
    }
  }
}

// A run sets one up; a kernel with another would be replaced by the plain one, silently.
TEST(kernels_of_a_set_share_their_unit) {
  for (const Rung& rung : runnable()) {
    const Unit* unit = nullptr;
    for (const LinearKernel& kernel : linears(rung)) {
      if (kernel.unit == nullptr) continue;
      CHECK_IN(name_of(kernel), unit == nullptr || unit == kernel.unit);
      unit = kernel.unit;
    }
  }
}

TEST(set_active_kernels_takes_and_refuses) {
  const std::string before = check::value(active_kernels())->name;
  for (const Rung& rung : runnable()) {
    check::ok(set_active_kernels(rung.name).status());
    CHECK(std::string(check::value(active_kernels())->name) == rung.name);
  }
  CHECK(set_active_kernels("sse9").status().text().starts_with("isa: expected one of "));
  CHECK(check::value(set_active_kernels(before)) == support::runnable().back().name);
  CHECK(check::value(active_kernels())->name == before);
}

}  // namespace
