// The forms in which a layer's weights are packed, and the views that kernels read them through.
// pack/layouts.h makes them; a kernel names the one it reads (LinearKernel::form).
//
// "dense": one layer of N outputs and K inputs ("panel" = 16 outputs):
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
// zeros come before each panel (kernels/dense_lead.h says how many): kernels may then begin to read
// rows up to 48 codes early, at the line that they begin in.
//
// "bounded": the same blocks for VPMADDUBSW, which adds two products in 16 bits and saturates
// beyond 32,767. Of every pair of neighbouring weights what exceeds 128 in sum (255 * 128 < 32,768)
// is taken away and kept in blocks of its own, so that neither saturates and both together are
// exact:
//
//     w  100  60 | -9 120     =     68  60 | -9 120     +     32   0 |  0   0
//                                  panels                    rests, half blocks with their inputs
//
// With 4,096 normally distributed inputs one pair in 130 has a rest, and one half block in nine;
// with fewer inputs the largest weight is less far out, and more have one.
//
// "int16": blocks of 16 outputs x 2 inputs, 16 bits a weight, for VPMADDWD: twice the bytes, and
// nothing to widen in the loop. For layers that stay near.
//
//     pair b of panel p:  int16[2*j + i] = w[16*p + j][2*b + i]     j = 0..15, i = 0..1
//
// "nibbles": for layers whose weights have at most 16 values, as those of 4 bits and of 16 clusters
// have: a table of the values, and 4 bits a weight that say which, decoded in the loops by a byte
// shuffle. Half of the dense bytes; for layers that come from far away, where reading is what takes
// the time. Two dense blocks share 64 bytes:
//
//     panel    byte[t] = index of block 2b's byte t | index of block 2b + 1's byte t << 4
//     table    int8[16], four times on end (what a shuffle of 64 bytes takes)
//
// The sparse forms are for weights of which many are zero, in sections of their own beside the
// dense one, with the epilogues' constants once more: among dense weights each panel's would be a
// walk to memory of its own.
//
// "bitmask": of every dense block the 64 bits that say which of its bytes are not zero, and those
// bytes. Costs per block, whatever the sparsity: a register is filled from the next popcount(mask)
// values.
//
//     masks    [m m m m ...]  one uint64 a block, in the order of dense blocks and panels
//     values   [v v v v v v v v ...]  int8 on end; panel p from value_starts[p] on
//
// "picks": costs per non-zero weight. A block of some outputs x 4 slots takes its inputs from a
// window that begins where the block says: bytes are picked from registers of inputs. 16 outputs
// and windows of 128 for two registers of AVX-512; "windows32" and "windows64" are the same for
// AVX2, with 8 outputs and narrower windows.
//
//     window_starts  [b b b ...]                  uint16 a block: its window begins at input b
//     blocks         [picks][weights] ...         panel p's from starts[p] to starts[p + 1]
//
// Picks are the place within the window (for "windows32" plus 0x70, as its kernels want it),
// output-major like a dense block; where a slot stays empty the weight is 0.
//
//     inputs of output 0   ---x----x-------x--x|------x------      The window begins at the first
//     inputs of output 1   x------x--x--x------|--x----------      input that some output still
//     ...                  [     window        |      ]            needs; each takes its next four.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastmnist {

inline constexpr std::int64_t kPanelOutputs = 16;
inline constexpr std::int64_t kBlockInputs = 4;
inline constexpr std::int64_t kBlockBytes = kPanelOutputs * kBlockInputs;
inline constexpr std::int64_t kInputPadding = 64;
inline constexpr int kMostNibbleValues = 16;
// Largest K for which every sum of products fits int32: 65,536 * 255 * 128 < 2^31.
inline constexpr std::int64_t kMaxInputs = 65536;

// Index in the table of layouts.
enum class WeightForm : std::uint8_t {
  kDense,
  kBounded,
  kInt16,
  kNibbles,
  kBitmask,
  kPicks,
  kWindows,
  kWideWindows
};
inline constexpr int kWeightForms = 8;
// By their names in Python and in kernels' names.
inline constexpr const char* kFormNames[kWeightForms] = {
    "dense", "bounded", "int16", "nibbles", "bitmask", "picks", "windows32", "windows64"};

static constexpr bool is_sparse(WeightForm form) { return form >= WeightForm::kBitmask; }

// What follows the blocks of a panel.
struct PanelEpilogue {
  float bias[kPanelOutputs];
  float scale[kPanelOutputs];              // of the weights, per output channel
  std::int32_t weight_sum[kPanelOutputs];  // Σ w, for the zero point of the inputs
};
static_assert(sizeof(PanelEpilogue) == 3 * 64);

struct DensePanels {
  const std::byte* panels;
  std::int64_t stride;  // bytes from a panel to the next
};

struct BoundedPanels {
  const std::byte* panels;
  std::int64_t stride;
  const std::uint64_t* rest_starts;  // [2 panels + 1]: of 8 outputs each
  const std::uint16_t* rest_quads;   // which inputs each is for: 4 q ... 4 q + 3
  const std::byte* rests;            // 8 outputs x 4 inputs each
  std::int64_t rest_count;
};

struct NibblePanels {
  const std::byte* panels;
  std::int64_t stride;
  const std::int8_t* table;  // [64]
};

struct BitmaskPanels {
  const std::uint64_t* value_starts;  // [panels]
  const std::uint64_t* masks;         // [panels][padded_inputs / 4]
  const std::int8_t* values;          // kValuePadding more bytes behind them may be read
  std::int64_t value_count;
};

struct PickPanels {
  const std::uint64_t* starts;         // [panels + 1]
  const std::uint16_t* window_starts;  // one a block
  const std::byte* blocks;
  std::int64_t block_count;
};

// How the blocks of a form with picks are made.
struct PickShape {
  std::int64_t outputs;      // of a block, and of a panel of them
  std::int64_t window;       // inputs
  std::int64_t picks;        // of a block: outputs x 4
  std::int64_t block_bytes;  // as many picks, as many weights
  int first_pick;            // what stands for the window's first input
};
inline constexpr PickShape kPickShape{16, 128, 64, 128, 0};
inline constexpr PickShape kWindowShape{8, 32, 32, 64, 0x70};
inline constexpr PickShape kWideWindowShape{8, 64, 32, 64, 0};

// What 16 blocks, between two checks of where the values end, may read at most; and one load.
inline constexpr std::int64_t kValuePadding = 16 * kBlockBytes + kBlockBytes;

// A view of one packed layer. Owns nothing. Which of the forms it has, its user knows.
struct Weights {
  std::int64_t inputs;           // K
  std::int64_t outputs;          // N
  std::int64_t padded_inputs;    // K rounded up to kInputPadding
  const std::byte* epilogues;    // panel 0's
  std::int64_t epilogue_stride;  // bytes from one panel's to the next
  union {
    DensePanels dense;  // and kInt16
    BoundedPanels bounded;
    NibblePanels nibbles;
    BitmaskPanels bitmask;
    PickPanels picks;  // kPicks, kWindows and kWideWindows
  };
};

}  // namespace fastmnist
