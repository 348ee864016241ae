// The vocabulary that kernels share with the rest of the library: plain structs, no functions.
//
// Beside core/layouts.h and headers of kernels/ that are all anonymous namespace, this is the only
// project header a kernel file includes. Kernel files are compiled with wider instruction sets than
// the rest; an inline function shared with them could be emitted twice, and the linker might keep
// the copy that older processors cannot run. So nothing here has a body.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/floats.h"
#include "core/layouts.h"

namespace fastmnist {

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
// Nothing is read outside of x_begin and x_end; no row of y is written past its N values.
struct LinearArgs {
  const std::uint8_t* x;
  std::int64_t x_stride;        // codes from one row to the next
  const std::uint8_t* x_begin;  // codes around those of the rows that may be read, too
  const std::uint8_t* x_end;
  std::int64_t rows;
  Weights w;                        // in the kernel's form
  Quantizer x_quantizer;            // of all rows, unless row_quantizers is set (dynamic)
  const Quantizer* row_quantizers;  // one per row, or nullptr
  Clamp clamp;
  void* y;                // float* or uint8_t*, by the kernel
  std::int64_t y_stride;  // values from one row to the next
  Quantizer y_quantizer;  // uint8 output only
  bool y_bounded;         // uint8 output only: no output times inv_scale reaches 2^30
  void* scratch;          // as much as the kernel asks for, aligned to 64
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

// What decides whether a kernel can compute a layer, and what it needs for that.
struct LinearShape {
  std::int64_t rows;
  std::int64_t inputs;
  std::int64_t outputs;
  bool codes_out;  // to codes of the next layer, else to floats
  bool per_row;    // a quantizer a row
  // No weight's magnitude is above.
  int most_weight = 128;
};

// A unit that must be set up around kernels (AMX tiles): enter() once on a thread before any number
// of calls, leave() on every way out. All kernels of a set that need one share it, address and all.
struct Unit {
  void (*enter)();
  void (*leave)();
};

// Where a kernel serves if nothing was measured. (plan.h has the rule for sparse weights.)
enum Suits : std::uint8_t {
  kWhereMeasured = 0,  // the rule never takes it
  kFewestRows = 1,     // one or two
  kFewRows = 2,        // up to 16, or few inputs
  kManyRows = 4,
};

// One way to compute a layer. All ways give the same bits; which is fastest depends on the shape,
// and is measured (runtime/planner.h). Each loop is a kernel of its own, so that the planner can
// choose among all of them.
struct LinearKernel {
  const char* isa;   // the set that it belongs to
  const char* loop;  // what tells it from others of the set and form: "narrow"; or ""
  int tile_rows;     // of its tile
  int tile_panels;   // of 16 outputs
  WeightForm form;
  int suits;                                                // of Suits
  const Unit* unit;                                         // nullptr: none
  bool (*can)(const LinearShape& shape);                    // nullptr: any
  std::int64_t (*scratch_bytes)(const LinearShape& shape);  // nullptr: none
  void (*linear_f32)(const LinearArgs& args);
  void (*linear_u8)(const LinearArgs& args);
};

// Rows of floats to codes and back.
struct RowKernels {
  // Both return whether a NaN was among the n values (its code is 0). q must not overlap x: rows
  // may be read twice.
  bool (*quantize)(const float* x, std::int64_t n, Quantizer quantizer, std::uint8_t* q);
  // q_j = clamp(rne(x_j * multiplier_j + offset_j), 0, 255), product and sum rounded separately.
  bool (*quantize_affine)(const float* x, std::int64_t n, const float* multiplier,
                          const float* offset, std::uint8_t* q);
  void (*dequantize)(const std::uint8_t* q, std::int64_t n, Quantizer quantizer, float* x);
  RowRange (*row_range)(const float* x, std::int64_t n);
};

struct PeakProbe;  // kernels/peak.h

// What the kernel files of one row of CMake's table bring: a set, or a part of one that needs more.
// Stateless: no allocation, no threads, no exceptions, no globals.
struct KernelPart {
  const char* isa;
  std::uint64_t needs;     // features (core/cpu.h) beside those of the set
  const RowKernels* rows;  // nullptr: those of the set's base
  const PeakProbe* peak;   // nullptr: no set of its own
  const LinearKernel* linears;
  int linear_count;
  const FloatKernels* floats = nullptr;             // nullptr: those of the set's base
  const FloatLinearKernel* float_linear = nullptr;  // the same
};

inline constexpr int kMaxLinearKernels = 24;

// One instruction set's kernels as they are used: its parts', and those of its base.
struct KernelTable {
  const char* name;
  RowKernels rows;
  FloatKernels floats;
  FloatLinearKernel float_linear;
  const PeakProbe* peak;
  int linear_count;
  LinearKernel linears[kMaxLinearKernels];  // the first takes any shape without unit or scratch
};

}  // namespace fastmnist
