// The vocabulary that kernels share with the rest of the library: plain structs, no functions.
//
// Beside headers of kernels/ that are all anonymous namespace, this is the only project header a
// kernel file includes. Kernel files are compiled with wider instruction sets than the rest; an
// inline function shared with them could be emitted twice, and the linker might keep the copy that
// older processors cannot run. So nothing here has a body.
//
// Packed dense weights, one layer of N outputs and K inputs ("panel" = 16 outputs):
//
//     panel 0                                   panel 1            panel ceil(N/16)-1
//     +--------+--------+- ... -+--------------++--------+- ... -+ ...
//     | block0 | block1 |       | bias scale Σ || block0 |       |
//     +--------+--------+- ... -+--------------++--------+- ... -+
//      64 bytes 64 bytes          3 x 64 bytes
//
//     block b of panel p:  byte[4*j + i] = w[16*p + j][4*b + i]     j = 0..15, i = 0..3
//
// Four neighbouring inputs of one output lie in one 32-bit lane, which is what a 4-byte dot product
// (VNNI; on Arm USDOT) consumes; 16 blocks on end are one AMX tile. K is padded with zeros to a
// multiple of 64 and N to a multiple of 16, so that no kernel has a tail of weights. The epilogue's
// constants follow the weights that they belong to. Where K is 16 or 32 modulo 64, and above 128,
// zeros come before each panel (`lead`): kernels may then begin to read rows up to 48 codes early,
// at the line that they begin in.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastmnist {

inline constexpr std::int64_t kPanelOutputs = 16;
inline constexpr std::int64_t kBlockInputs = 4;
inline constexpr std::int64_t kBlockBytes = kPanelOutputs * kBlockInputs;
inline constexpr std::int64_t kInputPadding = 64;
// Largest K for which every sum of products fits int32: 65,536 * 255 * 128 < 2^31.
inline constexpr std::int64_t kMaxInputs = 65536;

// What follows the blocks of a panel.
struct PanelEpilogue {
  float bias[kPanelOutputs];
  float scale[kPanelOutputs];              // of the weights, per output channel
  std::int32_t weight_sum[kPanelOutputs];  // Σ w, for the zero point of the inputs
};
static_assert(sizeof(PanelEpilogue) == 3 * 64);

// A view of one packed layer. Owns nothing.
struct PackedDense {
  const std::byte* panels;
  std::int64_t inputs;           // K
  std::int64_t outputs;          // N
  std::int64_t padded_inputs;    // K rounded up to kInputPadding
  std::int64_t panel_stride;     // bytes: lead + padded_inputs * 16 + sizeof(PanelEpilogue)
  std::int64_t lead;             // zero bytes that may be read before each panel
  const std::byte* epilogues;    // panel 0's: in the panels, or by themselves with sparse weights
  std::int64_t epilogue_stride;  // bytes from one panel's to the next
};

// Sparse weights, beside the dense ones, in one or both of two forms; none is {}.
//
// "bitmask": of every block the 64 bits that say which of its bytes are not zero, and those bytes.
// Costs per block, whatever the sparsity: a register is filled from the next popcount(mask) values.
//
//     masks    [m m m m ...]  one uint64 a block, in the order of dense blocks and panels
//     values   [v v v v v v v v ...]  int8 on end; panel p from value_starts[p] on
//
// "picks": costs per non-zero weight. A block of 16 outputs x 4 slots takes its inputs from a
// window of 128 that begins where the block says: bytes are picked from two registers of inputs.
//
//     window_starts  [b b b ...]                  uint16 a block: its window is inputs b .. b + 127
//     pick_blocks    [64 picks][64 weights] ...   panel p's from pick_starts[p] to pick_starts[p+1]
//
// Picks are 0..127 within the window, output-major like a dense block; where a slot stays empty the
// weight is 0.
//
//     inputs of output 0   ---x----x-------x--x|------x------      The window begins at the first
//     inputs of output 1   x------x--x--x------|--x----------      input that some output still
//     ...                  [     window        |      ]            needs; each takes its next four.
struct PackedSparse {
  const std::uint64_t* value_starts;  // [panels]
  const std::uint64_t* masks;         // [panels][padded_inputs / 4]; nullptr: not in this form
  const std::int8_t* values;          // kValuePadding more bytes behind them may be read
  std::int64_t value_count;
  const std::uint64_t* pick_starts;    // [panels + 1]
  const std::uint16_t* window_starts;  // nullptr: not in this form
  const std::byte* pick_blocks;
  std::int64_t pick_block_count;
};

inline constexpr std::int64_t kWindowInputs = 128;
inline constexpr std::int64_t kPickBlockBytes = 2 * kBlockBytes;
// What 16 blocks, between two checks of where the values end, may read at most; and one load.
inline constexpr std::int64_t kValuePadding = 16 * kBlockBytes + kBlockBytes;

enum class WeightForm : std::uint8_t { kDense, kBitmask, kPicks };

// Real value x stands for code clamp(rne(x * inv_scale) + zero_point, 0, 255).
struct Quantizer {
  float scale;
  float inv_scale;
  std::int32_t zero_point;
};

// ReLU is {0, inf}, ReLU6 {0, 6}, no activation {-inf, inf}.
struct Clamp {
  float lo;
  float hi;
};

// y[m] = epilogue(Σ_k x[m][k] * w[.][k]) for `rows` rows of codes.
// Nothing is read past x + x_readable; no row of y is written past its N values.
struct LinearArgs {
  const std::uint8_t* x;
  std::int64_t x_stride;    // codes from one row to the next
  std::int64_t x_readable;  // codes from x on that may be read: at least those of the rows
  std::int64_t x_before;    // codes before x that may be read, too
  bool x_tiled;             // x is in tile order, see TileUnit::tile_rows; kernels with tiles only
  std::int64_t rows;
  PackedDense w;
  PackedSparse sparse;              // for kernels of those forms
  Quantizer x_quantizer;            // of all rows, unless row_quantizers is set (dynamic)
  const Quantizer* row_quantizers;  // one per row, or nullptr
  Clamp clamp;
  void* y;                // float* or uint8_t*, by the kernel
  std::int64_t y_stride;  // values from one row to the next
  Quantizer y_quantizer;  // uint8 output only
  bool y_bounded;         // uint8 output only: no output times inv_scale reaches 2^30
  void* scratch;          // tile kernels only: scratch_bytes(...), aligned to 64
  // What the caller will read next, for kernels to ask for meanwhile (a hint; may be empty).
  const void* prefetch;
  std::int64_t prefetch_bytes;
};

// Smallest and largest value of a row, each bounded by 0. `finite` is false if it holds NaN or inf.
struct RowRange {
  float lo;
  float hi;
  bool finite;
};

// One way to compute a layer. All ways give the same bits; which is fastest depends on the shape.
struct LinearKernel {
  enum class Suits {
    kAnyRows,  // the set's plain kernel: serves everywhere
    kFewRows,  // up to 16 rows, or few inputs
    kManyRows,
    kWhereMeasured,  // the rule never takes it
  };
  const char* name;  // set, rows x panels of its tile, form of weights: "avx512_vnni 8x1 bitmask"
  WeightForm form;
  Suits suits;  // where it serves if nothing was measured (dense; plan.h for the others)
  bool tiles;   // needs the tile unit, and LinearArgs::scratch
  void (*linear_f32)(const LinearArgs& args);
  void (*linear_u8)(const LinearArgs& args);
};

// A unit that must be set up around kernels (AMX): enter() once on a thread before any number of
// calls, leave() on every way out.
struct TileUnit {
  void (*enter)();
  void (*leave)();
  std::int64_t (*scratch_bytes)(std::int64_t padded_inputs, bool sparse);
  // Rows of n codes to tile order: 16 rows x 64 codes, on end, are a kilobyte on end, rows of tiles
  // follow each other. `to` is aligned to 64 and holds ceil(rows / 16) * 16 rows of n padded to 64,
  // the padding zero; rows that do not exist stay as they are.
  void (*tile_rows)(const std::uint8_t* x, std::int64_t stride, std::int64_t rows, std::int64_t n,
                    std::uint8_t* to);
};

inline constexpr int kMaxLinearKernels = 10;

// One instruction set's kernels. Stateless: no allocation, no threads, no exceptions, no globals.
struct KernelTable {
  const char* name;
  // Both return whether a NaN was among the n values (its code is 0). q must not overlap x: rows
  // may be read twice.
  bool (*quantize)(const float* x, std::int64_t n, Quantizer quantizer, std::uint8_t* q);
  // q_j = clamp(rne(x_j * multiplier_j + offset_j), 0, 255), product and sum rounded separately.
  bool (*quantize_affine)(const float* x, std::int64_t n, const float* multiplier,
                          const float* offset, std::uint8_t* q);
  void (*dequantize)(const std::uint8_t* q, std::int64_t n, Quantizer quantizer, float* x);
  RowRange (*row_range)(const float* x, std::int64_t n);
  const TileUnit* tiles;  // nullptr where no kernel needs one
  int linear_count;
  LinearKernel linears[kMaxLinearKernels];  // the first suits any rows and needs no tile unit
};

}  // namespace fastmnist
