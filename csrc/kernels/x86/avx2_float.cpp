// Float32 layers on AVX2 with FMA: 16 registers hold tiles of 12 sums.
#include "kernels/x86/float_tiles.h"

namespace fastmnist {
namespace {

struct Lanes256 {
  using Vector = __m256;
  static constexpr std::int64_t kWidth = 8;
  // Of a tile of 1, 2, ... panels.
  static constexpr int kMostRows[] = {6, 3, 2, 1, 1, 1};
  static constexpr int kPanelsOfManyRows = 1;
  static constexpr std::int64_t kNearBytes = 16 * 1024;  // of weights: a panel of 256 inputs
  // A tile of 12 products has no turn to spare: 2 to 5 % were lost.
  static constexpr bool kAsksAhead = false;

  // The first n of a vector's values.
  static __m256i there(std::int64_t n) {
    const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), index);
  }
  static Vector zero() { return _mm256_setzero_ps(); }
  static Vector broadcast(const float* x) { return _mm256_set1_ps(*x); }
  static Vector load(const float* x) { return _mm256_loadu_ps(x); }
  // Clang makes two halves of one that need not be aligned.
  static Vector load_aligned(const float* x) { return _mm256_load_ps(x); }
  static Vector load(const float* x, __m256i mask) { return _mm256_maskload_ps(x, mask); }
  static void store(float* y, Vector x) { _mm256_storeu_ps(y, x); }
  static void store(float* y, __m256i mask, Vector x) { _mm256_maskstore_ps(y, mask, x); }
  static Vector fma(Vector x, Vector w, Vector sum) { return _mm256_fmadd_ps(x, w, sum); }
  static Vector add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
  static Vector greater(Vector a, Vector b) { return _mm256_max_ps(a, b); }
  static Vector lesser(Vector a, Vector b) { return _mm256_min_ps(a, b); }
};

constexpr FloatLinearKernel kFloatLinear = {"avx2", float_linear<Lanes256>};

}  // namespace

extern const KernelPart kAvx2FloatPart;
const KernelPart kAvx2FloatPart = {"avx2", 0, nullptr, nullptr, nullptr, 0, nullptr, &kFloatLinear};

}  // namespace fastmnist
