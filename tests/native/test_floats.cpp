// Kernels on rows of floats of every instruction set that runs here against the reference, bit by
// bit, in memory that faults on the first access outside.
#include <cfloat>
#include <cmath>
#include <string>

#include "check.h"
#include "core/activations.h"
#include "support.h"

namespace {

using namespace fastmnist;
using namespace support;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kSpecial[] = {0.0f,
                              -0.0f,
                              1e-45f,
                              -1e-45f,
                              FLT_MIN,
                              -FLT_MIN,
                              88.0f,
                              90.0f,
                              -103.0f,
                              -104.5f,
                              FLT_MAX,
                              -FLT_MAX,
                              kInfinity,
                              -kInfinity,
                              3.0f,
                              -3.0f,
                              std::numeric_limits<float>::quiet_NaN()};

std::vector<float> row(Random& random, std::int64_t n) {
  std::vector<float> values = reals(random, n, -12.0f, 12.0f);
  if (integer(random, 0, 1) != 0)
    for (float& v : values)
      if (integer(random, 0, 3) == 0)
        v = kSpecial[integer(random, 0, static_cast<std::int64_t>(std::size(kSpecial)) - 1)];
  return values;
}

Activation some_activation(Random& random, Function function) {
  const float slope = integer(random, 0, 2) == 0 ? 0.0f : real(random, -2.0f, 2.0f);
  const float p0 = function == Function::kSoftplus ? real(random, 0.1f, 3.0f) : slope;
  return check::value(checked_activation(static_cast<std::int64_t>(function), p0,
                                         real(random, 0.0f, 20.0f), real(random, 0.1f, 2.0f)));
}

// compute(kernels, y) for both, where y has n floats.
template <typename Compute>
void same_rows(const std::string& where, const FloatKernels& kernels, std::int64_t n, Edge edge,
               const Compute& compute) {
  Guarded<float> y(static_cast<std::size_t>(n), edge);
  std::vector<float> expected(static_cast<std::size_t>(n));
  compute(kernels, y.data());
  compute(reference::kFloats, expected.data());
  CHECK_IN(where, same_bits(y.values(), expected));
}

void check_activations(const std::string& name, const FloatKernels& kernels, Random& random,
                       const float* x, std::int64_t n, Edge edge) {
  for (std::uint32_t f = 0; f <= static_cast<std::uint32_t>(kLastFunction); ++f) {
    const Activation activation = some_activation(random, static_cast<Function>(f));
    const std::string where = name + " function " + std::to_string(f) + " of " + std::to_string(n);
    same_rows(where, kernels, n, edge,
              [&](const FloatKernels& k, float* y) { k.activate(x, n, activation, y); });
    const Quantizer quantizer = Layer(random, 1, 1).x_quantizer;
    Guarded<std::uint8_t> q(static_cast<std::size_t>(n), edge);
    std::vector<std::uint8_t> expected(static_cast<std::size_t>(n));
    CHECK_IN(where,
             kernels.activate_codes(x, n, activation, quantizer, q.data()) ==
                 reference::kFloats.activate_codes(x, n, activation, quantizer, expected.data()));
    CHECK_IN(where, n == 0 || std::memcmp(q.data(), expected.data(), expected.size()) == 0);
  }
}

void check_rows(const std::string& name, const FloatKernels& kernels, Random& random,
                const float* x, std::int64_t n, Edge edge) {
  Guarded<float> a(std::span<const float>(row(random, n)), edge);
  Guarded<float> b(std::span<const float>(row(random, n)), edge);
  const auto same = [&](const char* what, const auto& compute) {
    same_rows(name + " " + what + " of " + std::to_string(n), kernels, n, edge, compute);
  };
  using K = const FloatKernels&;
  same("clamp", [&](K k, float* y) { k.clamp(x, n, {-1.0f, 6.0f}, y); });
  same("slopes", [&](K k, float* y) { k.slopes(x, n, a.data(), y); });
  same("affine", [&](K k, float* y) { k.affine(x, n, a.data(), b.data(), y); });
  same("add", [&](K k, float* y) { k.add(x, a.data(), n, y); });
  same("subtract", [&](K k, float* y) { k.subtract(x, a.data(), n, y); });
  same("multiply", [&](K k, float* y) { k.multiply(x, a.data(), n, y); });
  same("divide", [&](K k, float* y) { k.divide(x, a.data(), n, y); });
  same("softmax", [&](K k, float* y) { k.softmax(x, n, y); });
  same("log_softmax", [&](K k, float* y) { k.log_softmax(x, n, y); });
  for (const float* weight :
       {static_cast<const float*>(nullptr), static_cast<const float*>(a.data())})
    for (const float* bias :
         {static_cast<const float*>(nullptr), static_cast<const float*>(b.data())})
      same("layer_norm", [&](K k, float* y) { k.layer_norm(x, n, weight, bias, 1e-5f, y); });
}

TEST(functions_of_floats_equal_reference) {
  for (const Rung& rung : runnable()) {
    Random random(7);
    for (std::int64_t n = 0; n < 70; ++n)
      for (const Edge edge : {Edge::kFirst, Edge::kLast}) {
        Guarded<float> x(std::span<const float>(row(random, n)), edge);
        check_activations(rung.name, rung.kernels->floats, random, x.data(), n, edge);
        check_rows(rung.name, rung.kernels->floats, random, x.data(), n, edge);
      }
    const std::int64_t many = 1537;  // more than the codes that are made at a time
    Guarded<float> x(std::span<const float>(row(random, many)), Edge::kLast);
    check_activations(rung.name, rung.kernels->floats, random, x.data(), many, Edge::kLast);
    check_rows(rung.name, rung.kernels->floats, random, x.data(), many, Edge::kLast);
  }
}

TEST(results_may_go_where_rows_came_from) {
  for (const Rung& rung : runnable()) {
    Random random(8);
    const std::vector<float> x = reals(random, 77, -5.0f, 5.0f);
    const auto n = static_cast<std::int64_t>(x.size());
    const FloatKernels& kernels = rung.kernels->floats;
    const auto same = [&](const char* what, const auto& compute) {
      std::vector<float> apart(x.size());
      std::vector<float> in_place = x;
      compute(x.data(), apart.data());
      compute(in_place.data(), in_place.data());
      CHECK_IN(std::string(rung.name) + " " + what, same_bits(in_place, apart));
    };
    same("activate", [&](const float* from, float* to) {
      kernels.activate(from, n, {Function::kGelu, {}}, to);
    });
    same("add", [&](const float* from, float* to) { kernels.add(from, x.data(), n, to); });
    same("softmax", [&](const float* from, float* to) { kernels.softmax(from, n, to); });
    same("log_softmax", [&](const float* from, float* to) { kernels.log_softmax(from, n, to); });
    same("layer_norm", [&](const float* from, float* to) {
      kernels.layer_norm(from, n, x.data(), nullptr, 1e-5f, to);
    });
  }
}

TEST(activations_are_checked) {
  const auto text = [](std::int64_t function, float p0, float p1, float p2) {
    return checked_activation(function, p0, p1, p2).status().text();
  };
  CHECK(text(14, 0, 0, 0) == "function: expected a number from 0 to 13, got 14");
  CHECK(text(-1, 0, 0, 0) == "function: expected a number from 0 to 13, got -1");
  CHECK(text(1, kInfinity, 0, 0) == "p0: expected a finite float32, got inf");
  CHECK(text(2, 1, 1, 0).starts_with("p2: expected a positive factor"));
  CHECK(text(11, 0, 20, 0).starts_with("p0: expected a beta of softplus other than 0"));
  CHECK(text(2, 1, 1, 1) == "ok");
}

}  // namespace
