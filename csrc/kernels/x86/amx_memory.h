// What AMX linear kernels know about memory: their scratch, what is near, what to ask for early.
#pragma once

#include "core/types.h"
#include "kernels/sizes.h"
#include "kernels/x86/amx_codes.h"
#include "kernels/x86/avx512_epilogue.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

constexpr std::int64_t kBlockRows = 2 * kTileRows;
constexpr std::int64_t kBlockOutputs = 2 * kPanelOutputs;
// Bytes of weights that stay in a second-level cache of 2 MB.
constexpr std::int64_t kNearWeights = 1280 * 1024;
// Slices (amx_slices.h) keep the sums of so many rows.
constexpr std::int64_t kSliceInputs = 1024;
constexpr std::int64_t kGroupRows = 288;
// Room for sparse weights that are decoded (amx_sparse.cpp): two panels, or a few tiles at work.
constexpr std::int64_t kDecodedBytes = 16 * kTileBytes;
constexpr std::int64_t decoded_bytes(std::int64_t padded_inputs) {
  const std::int64_t panels = 2 * padded_inputs * kPanelOutputs;
  return panels > kDecodedBytes ? panels : kDecodedBytes;
}

inline std::int64_t weight_bytes(std::int64_t inputs, std::int64_t outputs) {
  return panels_of(outputs) * kPanelOutputs * inputs;
}

// The pieces of scratch memory: sums (of a group of rows where there are slices, else of two
// blocks: one being made, one in the epilogue), and copies of rows that end too close to x's end.
struct Working {
  static constexpr std::int64_t kSumsBytes = kBlockRows * kBlockOutputs * 4;  // of 4 tiles
  static constexpr std::int64_t all_sums(std::int64_t padded_inputs) {
    return padded_inputs > kSliceInputs ? kGroupRows / kBlockRows * kSumsBytes : 2 * kSumsBytes;
  }
  static std::int64_t without_tiles(std::int64_t padded_inputs) {
    return all_sums(padded_inputs) + 2 * copy_bytes(padded_inputs) + decoded_bytes(padded_inputs);
  }
  static std::int64_t bytes(const LinearShape& shape) {
    return without_tiles(round_up(shape.inputs, kTileInputs)) + tiled_bytes(shape);
  }
  explicit Working(const LinearArgs& args)
      : sums{reinterpret_cast<std::int32_t*>(args.scratch),
             reinterpret_cast<std::int32_t*>(static_cast<std::byte*>(args.scratch) + kSumsBytes)},
        copies(static_cast<std::uint8_t*>(args.scratch) + all_sums(args.w.padded_inputs)) {}
  std::int32_t* sums[2];
  std::uint8_t* copies;
};

// Behind the copies.
inline std::byte* decoded_of(const LinearArgs& args, const Working& working) {
  return reinterpret_cast<std::byte*>(working.copies) + 2 * copy_bytes(args.w.padded_inputs);
}

// One kernel: `Loop` on rows in the order that suits it.
template <typename Loop, Output O>
void run(const LinearArgs& args) {
  auto* scratch = static_cast<std::uint8_t*>(args.scratch);
  run_tiled<Loop>(args, scratch + Working::without_tiles(args.w.padded_inputs),
                  O == Output::kFloats ? sizeof(float) : 1);
}

// Asks for the lines that the caller will read next, some with each step of products.
class Prefetch {
 public:
  Prefetch(const LinearArgs& args, std::int64_t steps)
      : at_(static_cast<const char*>(args.prefetch)), end_(at_ + args.prefetch_bytes) {
    per_step_ = (args.prefetch_bytes + 64 * steps - 1) / (64 * steps) * 64;
  }
  void step() {
    const char* stop = end_ - at_ < per_step_ ? end_ : at_ + per_step_;
    for (; at_ < stop; at_ += 64) _mm_prefetch(at_, _MM_HINT_T1);
  }

 private:
  const char* at_;
  const char* end_;
  std::int64_t per_step_;
};

}  // namespace
}  // namespace fastmnist
