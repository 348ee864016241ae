// AMX int8 kernels.
//
// TDPBUSD multiplies a tile of 16 rows x 64 codes by one of 64 inputs x 16 outputs: 16,384 exact
// products. A block is 32 rows x 2 panels in four accumulator tiles, so that each loaded tile is
// used twice; with a single accumulator the unit would wait for its own result two thirds of the
// time. The packed layout is the tile: 16 blocks of a panel on end are 64 inputs x 16 outputs.
//
//            panel p     panel p+1
//   rows     +---------+---------+        tmm4, tmm5: codes of rows 0-15, 16-31
//   0..15    | tmm0    | tmm1    |        tmm6, tmm7: weights of panels p, p+1
//   16..31   | tmm2    | tmm3    |
//            +---------+---------+
//
// K is padded with zero weights, so the last tile of codes may hold anything; only reading past
// the end of x has to be avoided, by copying those rows' tails first. While a block is multiplied,
// the sums of the block before go through the epilogue, a few rows per step: tile and vector units
// work side by side.
#include <immintrin.h>

#include "core/types.h"
#include "kernels/amx_codes.h"
#include "kernels/avx512_epilogue.h"

namespace fastmnist {
namespace {

constexpr std::int64_t kBlockRows = 2 * kTileRows;
constexpr std::int64_t kSumsOfPanel = kBlockRows * kPanelOutputs;

// Working memory: sums of two blocks (one being made, one in the epilogue), and codes of rows that
// end at the end of x: the last tile of each half, and a whole half.
constexpr std::int64_t kSumsBytes = 2 * kSumsOfPanel * 4;

std::int64_t scratch_bytes(std::int64_t padded_inputs) {
  return 2 * kSumsBytes + 2 * kTileBytes + 2 * kTileRows * padded_inputs;
}

void enter() {
  TileConfig config;
  for (int t = 0; t < 8; ++t) {
    config.bytes_per_row[t] = 64;
    config.rows[t] = 16;
  }
  tile_configure(config);
}

void leave() { tile_release(); }

// The epilogue of one block's sums, done a few rows at a time between the products of the next.
template <Output O>
class BlockEpilogue {
 public:
  static constexpr std::int64_t kRows = 4;  // per step

  explicit BlockEpilogue(const LinearArgs& args) : args_(args) {}

  void start(const std::int32_t* sums, std::int64_t row, std::int64_t rows, std::int64_t first) {
    sums_ = sums;
    row_ = row;
    end_ = row + rows;
    first_ = first;
    panels_ = args_.w.outputs - first > kPanelOutputs ? 2 : 1;
    for (int p = 0; p < panels_; ++p)
      constants_[p] = constants_of(args_.w, first / kPanelOutputs + p, args_.x_quantizer);
  }

  void step() {
    if (row_ >= end_) return;
    const std::int64_t rows = end_ - row_ < kRows ? end_ - row_ : kRows;
    const bool whole = rows == kRows && args_.row_quantizers == nullptr &&
                       args_.w.outputs - first_ >= 2 * kPanelOutputs;
    if (O == Output::kSaturate && whole)
      packed_rows();
    else
      for (std::int64_t r = 0; r < rows; ++r) one_row(r);
    sums_ += rows * kPanelOutputs;
    row_ += rows;
  }

  void finish() {
    while (row_ < end_) step();
  }

 private:
  __m512i sum(std::int64_t r, int p) const {
    return _mm512_load_si512(sums_ + p * kSumsOfPanel + r * kPanelOutputs);
  }

  // Two rows of two panels are one vector of 64 codes.
  void packed_rows() {
    const PanelConstants c[2] = {constants_[0], constants_[1]};
    auto* out = static_cast<std::uint8_t*>(args_.y) + row_ * args_.y_stride + first_;
    for (std::int64_t r = 0; r < kRows; r += 2) {
      const __m512i q = pack_codes(
          codes<O>(real(sum(r, 0), c[0]), args_), codes<O>(real(sum(r, 1), c[1]), args_),
          codes<O>(real(sum(r + 1, 0), c[0]), args_), codes<O>(real(sum(r + 1, 1), c[1]), args_));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + r * args_.y_stride),
                          _mm512_castsi512_si256(q));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + (r + 1) * args_.y_stride),
                          _mm512_extracti64x4_epi64(q, 1));
    }
  }

  void one_row(std::int64_t r) {
    for (int p = 0; p < panels_; ++p) {
      const PanelConstants c =
          args_.row_quantizers == nullptr
              ? constants_[p]
              : constants_of(args_.w, first_ / kPanelOutputs + p, args_.row_quantizers[row_ + r]);
      const std::int64_t n = first_ + p * kPanelOutputs;
      store<O>(args_, (row_ + r) * args_.y_stride + n, real(sum(r, p), c), args_.w.outputs - n);
    }
  }

  const LinearArgs& args_;
  PanelConstants constants_[2];
  const std::int32_t* sums_ = nullptr;  // of the next row, [panel][32 rows][16]
  std::int64_t row_ = 0;
  std::int64_t end_ = 0;
  std::int64_t first_ = 0;
  int panels_ = 0;
};

template <int HALVES, int PANELS>
void multiply_step(const std::uint8_t* const (&x)[2], const std::int64_t (&stride)[2],
                   const std::byte* w, std::int64_t panel_stride) {
  tile_load<6>(w, 64);
  tile_load<4>(x[0], stride[0]);
  tile_multiply<0, 4, 6>();
  if constexpr (PANELS == 2) {
    tile_load<7>(w + panel_stride, 64);
    tile_multiply<1, 4, 7>();
  }
  if constexpr (HALVES == 2) {
    tile_load<5>(x[1], stride[1]);
    tile_multiply<2, 5, 6>();
    if constexpr (PANELS == 2) tile_multiply<3, 5, 7>();
  }
}

// Sums of one block into `sums`, [panel][32 rows][16], doing the waiting epilogue on the way.
template <int HALVES, int PANELS, typename Epilogue>
void multiply(const Codes& codes, const std::byte* w, std::int64_t panel_stride, std::int64_t steps,
              Epilogue& waiting, std::int32_t* sums) {
  tile_zero<0>();
  if constexpr (PANELS == 2) tile_zero<1>();
  if constexpr (HALVES == 2) tile_zero<2>();
  if constexpr (HALVES == 2 && PANELS == 2) tile_zero<3>();
  const std::uint8_t* x[2] = {codes.body[0], codes.body[1]};
  const std::int64_t quanta = (kBlockRows / Epilogue::kRows + steps - 1) / steps;
  for (std::int64_t s = 0; s + 1 < steps; ++s) {
    multiply_step<HALVES, PANELS>(x, codes.body_stride, w, panel_stride);
    x[0] += kTileInputs;
    x[1] += kTileInputs;
    w += kTileBytes;
    for (std::int64_t i = 0; i < quanta; ++i) waiting.step();
  }
  multiply_step<HALVES, PANELS>(codes.tail, codes.tail_stride, w, panel_stride);
  waiting.finish();
  tile_store<0>(sums, 64);
  if constexpr (PANELS == 2) tile_store<1>(sums + kSumsOfPanel, 64);
  if constexpr (HALVES == 2) tile_store<2>(sums + kTileRows * kPanelOutputs, 64);
  if constexpr (HALVES == 2 && PANELS == 2)
    tile_store<3>(sums + kSumsOfPanel + kTileRows * kPanelOutputs, 64);
}

// Two panels of weights at a time over all rows: the panels stay in cache.
template <Output O>
void linear(const LinearArgs& args) {
  const PackedDense& w = args.w;
  const std::int64_t steps = w.padded_inputs / kTileInputs;
  auto* scratch = static_cast<std::uint8_t*>(args.scratch);
  std::int32_t* const sums[2] = {reinterpret_cast<std::int32_t*>(scratch),
                                 reinterpret_cast<std::int32_t*>(scratch + kSumsBytes)};
  std::uint8_t* copies = scratch + 2 * kSumsBytes;
  Codes codes{};
  std::int64_t codes_at = -1;  // the block that `codes`, and the copies it may point to, belong to
  BlockEpilogue<O> waiting(args);
  int turn = 0;
  for (std::int64_t first = 0; first < w.outputs; first += 2 * kPanelOutputs) {
    const bool two_panels = w.outputs - first > kPanelOutputs;
    const std::byte* weights = w.panels + first / kPanelOutputs * w.panel_stride;
    for (std::int64_t m = 0; m < args.rows; m += kBlockRows, turn ^= 1) {
      const std::int64_t rows = args.rows - m < kBlockRows ? args.rows - m : kBlockRows;
      if (codes_at != m) codes = codes_of(args, m, copies);
      codes_at = m;
      const auto work =
          rows > kTileRows
              ? (two_panels ? multiply<2, 2, decltype(waiting)> : multiply<2, 1, decltype(waiting)>)
              : (two_panels ? multiply<1, 2, decltype(waiting)>
                            : multiply<1, 1, decltype(waiting)>);
      work(codes, weights, w.panel_stride, steps, waiting, sums[turn]);
      waiting.start(sums[turn], m, rows, first);
    }
  }
  waiting.finish();
}

void linear_u8(const LinearArgs& args) {
  if (saturation_is_enough(args))
    linear<Output::kSaturate>(args);
  else
    linear<Output::kCodes>(args);
}

}  // namespace

extern const TileKernels kAmxInt8Kernels;
const TileKernels kAmxInt8Kernels = {enter, leave, scratch_bytes, linear<Output::kFloats>,
                                     linear_u8};

}  // namespace fastmnist
