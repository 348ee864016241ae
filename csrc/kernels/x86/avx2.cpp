// AVX2 kernels.
//
// VPMADDUBSW would multiply bytes directly, but it saturates the sum of two products at 32,767 and
// so gives wrong answers for large codes. Here bytes are widened to 16 bits first, even and odd
// positions apart, which needs no shuffles:
//
//     32 bits of a block, one output:   w3 w2 w1 w0        four inputs of one row:  x3 x2 x1 x0
//     even: sign-extended w2, w0  *  x & 0x00ff00ff   ->  VPMADDWD  ->  w0 x0 + w2 x2  (exact)
//     odd:  w >> 8 (arithmetic)   *  x >> 8           ->  VPMADDWD  ->  w1 x1 + w3 x3  (exact)
//
// so one ymm register accumulates 8 outputs, and a tile is ROWS rows by one panel (2 registers).
#include "core/types.h"
#include "kernels/unroll.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

constexpr std::int64_t kLanes = 8;

// Lanes 0..n-1 on, 0 <= n <= 8.
__m256i lanes(std::int64_t n) {
  const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), index);
}

// The last 1..3 inputs of a row, without reading past them.
std::int32_t load_tail(const std::uint8_t* p, std::int64_t n) {
  std::uint32_t v = 0;
  for (std::int64_t i = 0; i < n; ++i) v |= static_cast<std::uint32_t>(p[i]) << (8 * i);
  return static_cast<std::int32_t>(v);
}

// Values that are integers or NaN to codes in the low byte of each lane. NaN -> 0 by operand order.
__m256i saturate(__m256 v) {
  v = _mm256_max_ps(v, _mm256_setzero_ps());
  v = _mm256_min_ps(v, _mm256_set1_ps(255.0f));
  return _mm256_cvtps_epi32(v);
}

__m256 rne(__m256 v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

__m256i quantize_lanes(__m256 x, const Quantizer& quantizer) {
  const __m256 scaled = rne(_mm256_mul_ps(x, _mm256_set1_ps(quantizer.inv_scale)));
  return saturate(_mm256_add_ps(scaled, _mm256_set1_ps(static_cast<float>(quantizer.zero_point))));
}

void store_codes(std::uint8_t* q, __m256i codes, std::int64_t n) {
  const __m128i words =
      _mm_packus_epi32(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1));
  const __m128i bytes = _mm_packus_epi16(words, words);
  if (n >= kLanes) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(q), bytes);
    return;
  }
  std::uint8_t buffer[16];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(buffer), bytes);
  for (std::int64_t i = 0; i < n; ++i) q[i] = buffer[i];
}

__m256 load_floats(const float* x, std::int64_t n) {
  return n >= kLanes ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, lanes(n));
}

bool quantize(const float* x, std::int64_t n, Quantizer quantizer, std::uint8_t* q) {
  __m256 nan = _mm256_setzero_ps();
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const __m256 v = load_floats(x + i, n - i);
    nan = _mm256_or_ps(nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    store_codes(q + i, quantize_lanes(v, quantizer), n - i);
  }
  return _mm256_movemask_ps(nan) != 0;
}

bool quantize_affine(const float* x, std::int64_t n, const float* multiplier, const float* offset,
                     std::uint8_t* q) {
  __m256 nan = _mm256_setzero_ps();
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const __m256 v = load_floats(x + i, n - i);
    nan = _mm256_or_ps(nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256 product = _mm256_mul_ps(v, load_floats(multiplier + i, n - i));
    const __m256 sum = _mm256_add_ps(product, load_floats(offset + i, n - i));
    store_codes(q + i, saturate(rne(sum)), n - i);
  }
  return _mm256_movemask_ps(nan) != 0;
}

void dequantize(const std::uint8_t* q, std::int64_t n, Quantizer quantizer, float* x) {
  const __m256i zero_point = _mm256_set1_epi32(quantizer.zero_point);
  const __m256 scale = _mm256_set1_ps(quantizer.scale);
  for (std::int64_t i = 0; i < n; i += kLanes) {
    std::uint8_t buffer[kLanes] = {};
    const std::int64_t count = n - i < kLanes ? n - i : kLanes;
    for (std::int64_t j = 0; j < count; ++j) buffer[j] = q[i + j];
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(buffer));
    const __m256i codes = _mm256_sub_epi32(_mm256_cvtepu8_epi32(bytes), zero_point);
    const __m256 values = _mm256_mul_ps(_mm256_cvtepi32_ps(codes), scale);
    if (count == kLanes)
      _mm256_storeu_ps(x + i, values);
    else
      _mm256_maskstore_ps(x + i, lanes(count), values);
  }
}

RowRange row_range(const float* x, std::int64_t n) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  const __m256 infinity = _mm256_set1_ps(__builtin_inff());
  __m256 lo = _mm256_setzero_ps();
  __m256 hi = _mm256_setzero_ps();
  __m256 finite = _mm256_castsi256_ps(_mm256_set1_epi32(-1));
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const __m256 v = load_floats(x + i, n - i);
    lo = _mm256_min_ps(v, lo);
    hi = _mm256_max_ps(v, hi);
    finite =
        _mm256_and_ps(finite, _mm256_cmp_ps(_mm256_and_ps(v, magnitude), infinity, _CMP_LT_OQ));
  }
  float los[kLanes];
  float his[kLanes];
  _mm256_storeu_ps(los, lo);
  _mm256_storeu_ps(his, hi);
  RowRange range{0.0f, 0.0f, _mm256_movemask_ps(finite) == 0xff};
  for (std::int64_t i = 0; i < kLanes; ++i) {
    range.lo = los[i] < range.lo ? los[i] : range.lo;
    range.hi = his[i] > range.hi ? his[i] : range.hi;
  }
  return range;
}

// One row's 8 outputs from their sums of products.
__m256 epilogue(__m256i acc, const PanelEpilogue& constants, std::int64_t first, const Quantizer& q,
                const Clamp& clamp) {
  const __m256i sums =
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(constants.weight_sum + first));
  const __m256i correction = _mm256_mullo_epi32(sums, _mm256_set1_epi32(q.zero_point));
  const __m256 centered = _mm256_cvtepi32_ps(_mm256_sub_epi32(acc, correction));
  const __m256 scale =
      _mm256_mul_ps(_mm256_set1_ps(q.scale), _mm256_loadu_ps(constants.scale + first));
  const __m256 y = _mm256_fmadd_ps(centered, scale, _mm256_loadu_ps(constants.bias + first));
  return _mm256_min_ps(_mm256_set1_ps(clamp.hi), _mm256_max_ps(_mm256_set1_ps(clamp.lo), y));
}

struct StoreFloat {
  static void put(const LinearArgs& args, std::int64_t at, __m256 y, std::int64_t n) {
    float* out = static_cast<float*>(args.y) + at;
    if (n >= kLanes)
      _mm256_storeu_ps(out, y);
    else
      _mm256_maskstore_ps(out, lanes(n), y);
  }
};

struct StoreCodes {
  static void put(const LinearArgs& args, std::int64_t at, __m256 y, std::int64_t n) {
    store_codes(static_cast<std::uint8_t*>(args.y) + at, quantize_lanes(y, args.y_quantizer), n);
  }
};

template <int ROWS>
FASTMNIST_INLINE void accumulate(__m256i (&acc)[ROWS][2], const std::uint8_t* x,
                                 std::int64_t x_stride, const std::byte* block) {
  const __m256i even_bytes = _mm256_set1_epi32(0x00ff00ff);
  __m256i even[2];
  __m256i odd[2];
  unrolled<2>([&](auto half) {
    const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block) + half);
    even[half] = _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8);
    odd[half] = _mm256_srai_epi16(w, 8);
  });
  unrolled<ROWS>([&](auto r) {
    const __m256i x4 = _mm256_broadcastd_epi32(_mm_loadu_si32(x + r * x_stride));
    const __m256i x_even = _mm256_and_si256(x4, even_bytes);
    const __m256i x_odd = _mm256_srli_epi16(x4, 8);
    unrolled<2>([&](auto half) {
      acc[r][half] =
          _mm256_add_epi32(acc[r][half], _mm256_add_epi32(_mm256_madd_epi16(x_even, even[half]),
                                                          _mm256_madd_epi16(x_odd, odd[half])));
    });
  });
}

template <int ROWS, typename Store>
void tile(const LinearArgs& args, std::int64_t m, std::int64_t panel) {
  const Weights& w = args.w;
  const std::byte* block = w.dense.panels + panel * w.dense.stride;
  const std::uint8_t* x = args.x + m * args.x_stride;
  __m256i acc[ROWS][2];
  unrolled<ROWS>([&](auto r) { acc[r][0] = acc[r][1] = _mm256_setzero_si256(); });
  std::int64_t k = 0;
  for (; k + kBlockInputs <= w.inputs; k += kBlockInputs, block += kBlockBytes)
    accumulate<ROWS>(acc, x + k, args.x_stride, block);
  if (k < w.inputs) {
    std::int32_t tails[ROWS];
    for (int r = 0; r < ROWS; ++r) tails[r] = load_tail(x + r * args.x_stride + k, w.inputs - k);
    accumulate<ROWS>(acc, reinterpret_cast<const std::uint8_t*>(tails), kBlockInputs, block);
  }
  const auto& constants =
      *reinterpret_cast<const PanelEpilogue*>(w.epilogues + panel * w.epilogue_stride);
  unrolled<ROWS>([&](auto r) {
    const Quantizer& q =
        args.row_quantizers != nullptr ? args.row_quantizers[m + r] : args.x_quantizer;
    unrolled<2>([&](auto half) {
      const std::int64_t first = panel * kPanelOutputs + half * kLanes;
      if (first < w.outputs)
        Store::put(args, (m + r) * args.y_stride + first,
                   epilogue(acc[r][half], constants, half * kLanes, q, args.clamp),
                   w.outputs - first);
    });
  });
}

// A panel's weights are read once for all rows before the next panel's; what is left of fours is
// one tile, so up to four rows read the weights once.
template <typename Store>
void linear(const LinearArgs& args) {
  for (std::int64_t panel = 0; panel * kPanelOutputs < args.w.outputs; ++panel) {
    std::int64_t m = 0;
    for (; m + 4 <= args.rows; m += 4) tile<4, Store>(args, m, panel);
    const std::int64_t left = args.rows - m;
    if (left == 3) tile<3, Store>(args, m, panel);
    if (left == 2) tile<2, Store>(args, m, panel);
    if (left == 1) tile<1, Store>(args, m, panel);
  }
}

constexpr RowKernels kRows = {quantize, quantize_affine, dequantize, row_range};

constexpr LinearKernel kLinears[] = {{"avx2", "", 4, 1, WeightForm::kDense,
                                      kFewestRows | kFewRows | kManyRows, nullptr, nullptr, nullptr,
                                      linear<StoreFloat>, linear<StoreCodes>}};

}  // namespace

extern const PeakProbe kAvx2Peak;

extern const KernelPart kAvx2Part;
const KernelPart kAvx2Part = {"avx2", 0, &kRows, &kAvx2Peak, kLinears, 1};

}  // namespace fastmnist
