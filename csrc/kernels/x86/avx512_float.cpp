// Float32 layers on AVX-512: 32 registers hold tiles of 24 sums.
#include "kernels/x86/float_tiles.h"

namespace fastmnist {
namespace {

struct Lanes512 {
  using Vector = __m512;
  static constexpr std::int64_t kWidth = 16;
  // Of a tile of 1, 2, ... panels.
  static constexpr int kMostRows[] = {8, 8, 8, 6, 3, 3, 3, 3};
  static constexpr int kPanelsOfManyRows = 4;
  static constexpr std::int64_t kNearBytes = 32 * 1024;  // of weights: four panels of 128 inputs
  // 1 to 5 % for many rows.
  static constexpr bool kAsksAhead = true;

  // The first n of a vector's values.
  static __mmask16 there(std::int64_t n) {
    return n >= kWidth ? __mmask16{0xffff}
           : n <= 0    ? __mmask16{0}
                       : static_cast<__mmask16>((1u << n) - 1u);
  }
  static Vector zero() { return _mm512_setzero_ps(); }
  static Vector broadcast(const float* x) { return _mm512_set1_ps(*x); }
  static Vector load(const float* x) { return _mm512_loadu_ps(x); }
  static Vector load_aligned(const float* x) { return _mm512_load_ps(x); }
  static Vector load(const float* x, __mmask16 mask) { return _mm512_maskz_loadu_ps(mask, x); }
  static void store(float* y, Vector x) { _mm512_storeu_ps(y, x); }
  static void store(float* y, __mmask16 mask, Vector x) { _mm512_mask_storeu_ps(y, mask, x); }
  static Vector fma(Vector x, Vector w, Vector sum) { return _mm512_fmadd_ps(x, w, sum); }
  static Vector add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
  static Vector greater(Vector a, Vector b) { return _mm512_max_ps(a, b); }
  static Vector lesser(Vector a, Vector b) { return _mm512_min_ps(a, b); }
};

constexpr FloatLinearKernel kFloatLinear = {"avx512_vnni", float_linear<Lanes512>};

}  // namespace

extern const KernelPart kAvx512FloatPart;
const KernelPart kAvx512FloatPart = {"avx512_vnni", 0, nullptr, nullptr,
                                     nullptr,       0, nullptr, &kFloatLinear};

}  // namespace fastmnist
