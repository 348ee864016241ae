// The vocabulary of kernels on rows of floats: activations, joins, norms and float32 layers. Plain
// structs, no functions, for the reason that core/types.h gives, which includes this.
//
// What each computes, operation by operation, is defined in kernels/functions.h and float_rows.h
// and, for layers, in kernels/reference.h; every instruction set gives the same bits. Here is what
// is meant in mathematics.
#pragma once

#include <cstdint>

namespace fastmnist {

struct Quantizer;
struct Clamp;

// One number in, one out, the same for every neuron; never NaN unless it comes in, given parameters
// that core/activations.h lets pass. Clamps (ReLU) are no function: layers have one of their own,
// before the function.
enum class Function : std::uint32_t {
  kNone = 0,
  kLeakyRelu = 1,    // x < 0: x * p0
  kElu = 2,          // x > 0: x * p0, else expm1(x * p2) * p1; ELU, SELU and CELU
  kGelu = 3,         // x * (1 + erf(x / sqrt(2))) / 2
  kGeluTanh = 4,     // x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) / 2
  kSilu = 5,         // x * sigmoid(x)
  kMish = 6,         // x * tanh(log(1 + exp(x)))
  kHardswish = 7,    // x * min(max(x + 3, 0), 6) / 6
  kHardsigmoid = 8,  // min(max(x + 3, 0), 6) / 6
  kSigmoid = 9,
  kTanh = 10,
  kSoftplus = 11,  // log(1 + exp(x * p0)) / p0, x itself where x * p0 > p1
  kLogSigmoid = 12,
  kSoftsign = 13,  // x / (1 + |x|)
};
inline constexpr Function kLastFunction = Function::kSoftsign;

struct Activation {
  Function function;
  float parameters[3];  // p0, p1, p2
};

// y[m] = clamp(bias + Σ_k x[m][k] * w[.][k]), one fma chain an output, k ascending from 0.
//
//     panels: one after the other, each of 16 outputs; outputs that do not exist are zeros
//     panel:  input 0: 16 floats | input 1: 16 floats | ...       [inputs][16]
struct FloatLinearArgs {
  const float* x;
  std::int64_t x_stride;  // floats from one row to the next
  std::int64_t rows;
  const float* panels;  // aligned to 64
  const float* bias;    // [outputs, rounded up to 16], aligned to 64
  std::int64_t inputs;  // at least 1
  std::int64_t outputs;
  float lo;  // of the clamp
  float hi;
  float* y;  // no row is written past its outputs; holds sums meanwhile, so it must not overlap x
  std::int64_t y_stride;
};

// y may be x (or a, or b). A row is contiguous and may lie anywhere.
struct FloatKernels {
  void (*activate)(const float* x, std::int64_t n, const Activation& activation, float* y);
  // Exactly quantize(activate(x)); whether a NaN was among the results, whose code is 0.
  bool (*activate_codes)(const float* x, std::int64_t n, const Activation& activation,
                         const Quantizer& quantizer, std::uint8_t* q);
  void (*clamp)(const float* x, std::int64_t n, const Clamp& bounds, float* y);
  // PReLU with a slope a value: x < 0: x * slope.
  void (*slopes)(const float* x, std::int64_t n, const float* slopes, float* y);
  // fma(x, multiplier, offset): a BatchNorm that stands alone.
  void (*affine)(const float* x, std::int64_t n, const float* multiplier, const float* offset,
                 float* y);
  void (*add)(const float* a, const float* b, std::int64_t n, float* y);
  void (*subtract)(const float* a, const float* b, std::int64_t n, float* y);
  void (*multiply)(const float* a, const float* b, std::int64_t n, float* y);
  void (*divide)(const float* a, const float* b, std::int64_t n, float* y);
  void (*softmax)(const float* x, std::int64_t n, float* y);
  void (*log_softmax)(const float* x, std::int64_t n, float* y);
  // weight and bias may be nullptr: ones and zeros.
  void (*layer_norm)(const float* x, std::int64_t n, const float* weight, const float* bias,
                     float epsilon, float* y);
};

// One way to compute a float32 layer. All give the same bits.
struct FloatLinearKernel {
  const char* isa;
  void (*linear)(const FloatLinearArgs& args);
};

}  // namespace fastmnist
