// The functions of core/floats.h's `Function`, each defined once, operation by operation in
// float32, over lanes (lanes_scalar.h): what is written here is what every instruction set
// computes, bit by bit. int8/reference_functions.py says it again in NumPy.
//
// All are total: a number or an infinity gives one of these, the limit where torch's formula has
// none (SiLU of -inf is -0), and NaN gives NaN. So codes made of results say by 0 that something
// was NaN, whether or not the results were floats in between. Comparisons are ordered such that a
// NaN passes: least(bound, x), most(bound, x).
//
// Largest error against float64, of 14 million floats of all sizes and 8 million about 0, in units
// in the last place of the larger of the result and 1, and of the result itself as far as 2^-100.
// tests/csrc/kernels/test_functions.py holds these bounds, by a little.
//
//     LeakyReLU    0.48  0.48      ELU          0.36  0.86
//     GELU         0.80   6.2      GELU(tanh)   1.50    78
//     SiLU         1.50   3.2      Mish         1.92   4.3
//     Hardswish    1.65   1.9      Hardsigmoid  0.50   1.0
//     Sigmoid      0.76   2.3      Tanh         1.25   2.5
//     Softplus     1.19   2.8      LogSigmoid   1.17   2.7
//     Softsign     0.75   1.5
//
// In its tail GELU(tanh) is exp of a product that float32 rounds: its last result above 2^-100 is
// off by 78 units, those above 0.001 by 4.
#pragma once

#include "core/types.h"
#include "kernels/exponentials.h"
#include "kernels/lanes_scalar.h"

namespace fastmnist {
namespace {

constexpr float kInfinity = __builtin_inff();
constexpr float kMost = __FLT_MAX__;

template <typename V>
struct Nothing {
  FASTMNIST_INLINE V operator()(V x) const { return x; }
};

// What infinities are bounded by before they are multiplied: by 0 they would give NaN.
inline float bound_for(float factor) { return factor == 0.0f ? kMost : kInfinity; }

template <typename V>
struct LeakyRelu {
  V slope;
  V bound;
  explicit LeakyRelu(const Activation& a)
      : slope(a.parameters[0]), bound(-bound_for(a.parameters[0])) {}
  FASTMNIST_INLINE V operator()(V x) const {
    return select(x < V(0.0f), most(bound, x) * slope, x);
  }
};

// LeakyRelu with a slope a lane.
template <typename V>
struct Slopes {
  FASTMNIST_INLINE V operator()(V x, V slope) const {
    const V bound = select(V(0.0f) < magnitude(slope), V(-kInfinity), V(-kMost));
    return select(x < V(0.0f), most(bound, x) * slope, x);
  }
};

template <typename V>
struct Elu {
  V positive;
  V negative;
  V inner;
  V bound;
  explicit Elu(const Activation& a)
      : positive(a.parameters[0]),
        negative(a.parameters[1]),
        inner(a.parameters[2]),
        bound(bound_for(a.parameters[0])) {}
  FASTMNIST_INLINE V operator()(V x) const {
    const V below = expm1_of(least(V(0.0f), x * inner)) * negative;
    return select(V(0.0f) < x, least(bound, x) * positive, below);
  }
};

// x * Phi(x). Below 0, Phi is exp(-x^2 / 2) times a smooth, slowly falling factor, a ratio of
// polynomials without a difference in them; so the tail is as exact as the rest. The square is
// exact in two parts, since exp makes of its rounding error an error many times as large.
template <typename V>
struct Gelu {
  FASTMNIST_INLINE V operator()(V x) const {
    const V t = least(V(15.0f), magnitude(x));  // whose Phi is 0
    const V square = t * t;
    const V rest = fma(t, t, -square);
    const V e = exp_of(square * V(-0.5f), rest * V(-0.5f));
    const V p = polynomial(t, 0x1p-1f, 0.43849632144f, 0.1833844929933548f, 0.04068362340331f,
                           0.004123803693801165f);
    const V q = polynomial(t, 1.0f, 1.674877643585205f, 1.2031230926513672f, 0.46986493468284607f,
                           0.10198509693145752f, 0.010336724109947681f);
    return select(x < V(0.0f), V(-0.0f), x) - t * (p / q) * e;
  }
};

// x * sigmoid(2u), 2|u| and what is lost by rounding it.
template <typename V>
struct GeluTanh {
  FASTMNIST_INLINE V operator()(V x) const {
    const V t = least(V(12.0f), magnitude(x));
    const V square = t * t;
    // 2 sqrt(2 / pi) and 0.044715 times that, and what these two lose by rounding.
    const V c0 = V(0x1.988454p+0f);
    const V c1 = V(0x1.2444f2p-4f);
    const V factor = fma(square, c1, c0);
    const V u2 = t * factor;
    const V factor_rest =
        fma(square, c1, c0 - factor) + fma(square, V(0x1.49b16ap-29f), V(-0x1.857936p-25f));
    const V e = exp_of(-u2, -(fma(t, factor, -u2) + t * factor_rest));
    return select(x < V(0.0f), -(t * e), x) / (V(1.0f) + e);
  }
};

template <typename V>
struct Silu {
  FASTMNIST_INLINE V operator()(V x) const {
    const V t = least(V(104.0f), magnitude(x));
    const V e = exp_of(-t);
    return select(x < V(0.0f), -(t * e), x) / (V(1.0f) + e);
  }
};

// tanh(log(1 + e)) = n / (n + 2) with n = (1 + e)^2 - 1, e = exp(x).
template <typename V>
struct Mish {
  FASTMNIST_INLINE V operator()(V x) const {
    const V above = most(V(-104.0f), x);
    const V e = exp_of(least(V(20.0f), above));
    const V n = e * (e + V(2.0f));
    return above * (n / (n + V(2.0f)));
  }
};

template <typename V>
struct Hardsigmoid {
  FASTMNIST_INLINE V operator()(V x) const {
    return least(V(6.0f), most(V(0.0f), x + V(3.0f))) / V(6.0f);
  }
};

template <typename V>
struct Hardswish {
  FASTMNIST_INLINE V operator()(V x) const { return most(V(-3.0f), x) * Hardsigmoid<V>()(x); }
};

template <typename V>
struct Sigmoid {
  FASTMNIST_INLINE V operator()(V x) const {
    const V e = exp_of(-magnitude(x));
    return select(x < V(0.0f), e, V(1.0f)) / (V(1.0f) + e);
  }
};

template <typename V>
struct Tanh {
  FASTMNIST_INLINE V operator()(V x) const {
    const V e = expm1_of(magnitude(x) * V(-2.0f));
    return with_sign(magnitude(e / (V(2.0f) + e)), x);
  }
};

template <typename V>
struct Softplus {
  V beta;
  V threshold;
  explicit Softplus(const Activation& a) : beta(a.parameters[0]), threshold(a.parameters[1]) {}
  FASTMNIST_INLINE V operator()(V x) const {
    const V z = x * beta;
    const V curved = (most(V(0.0f), z) + log1p_of(exp_of(-magnitude(z)))) / beta;
    return select(threshold < z, x, curved);
  }
};

template <typename V>
struct LogSigmoid {
  FASTMNIST_INLINE V operator()(V x) const {
    return least(V(0.0f), x) - log1p_of(exp_of(-magnitude(x)));
  }
};

template <typename V>
struct Softsign {
  FASTMNIST_INLINE V operator()(V x) const {
    const V t = least(V(kMost), magnitude(x));
    return with_sign(t / (V(1.0f) + t), x);
  }
};

// body(function), the function as a type of its own: one choice for a whole row.
template <typename V, typename Body>
FASTMNIST_INLINE void with_function(const Activation& a, const Body& body) {
  switch (a.function) {
    case Function::kNone:
      return body(Nothing<V>());
    case Function::kLeakyRelu:
      return body(LeakyRelu<V>(a));
    case Function::kElu:
      return body(Elu<V>(a));
    case Function::kGelu:
      return body(Gelu<V>());
    case Function::kGeluTanh:
      return body(GeluTanh<V>());
    case Function::kSilu:
      return body(Silu<V>());
    case Function::kMish:
      return body(Mish<V>());
    case Function::kHardswish:
      return body(Hardswish<V>());
    case Function::kHardsigmoid:
      return body(Hardsigmoid<V>());
    case Function::kSigmoid:
      return body(Sigmoid<V>());
    case Function::kTanh:
      return body(Tanh<V>());
    case Function::kSoftplus:
      return body(Softplus<V>(a));
    case Function::kLogSigmoid:
      return body(LogSigmoid<V>());
    case Function::kSoftsign:
      return body(Softsign<V>());
  }
}

}  // namespace
}  // namespace fastmnist
