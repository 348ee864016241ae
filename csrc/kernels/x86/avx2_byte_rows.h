// Blocks of up to six rows whose codes are multiplied as bytes, for avx2_bounded.cpp and
// avx2_narrow.cpp (avx2_blocks.h says how blocks are walked): in an anonymous namespace.
//
// Rows need no preparing but the list of their live quads, unless the last one ends within a quad
// at the end of what may be read: then they are copied. A block, prepared:
//
//     ByteRows | list of live quads | copies of the rows, if need be
#pragma once

#include "core/types.h"
#include "kernels/sizes.h"
#include "kernels/unroll.h"
#include "kernels/x86/avx2_blocks.h"
#include "kernels/x86/avx2_live.h"
#include "kernels/x86/intrinsics.h"

namespace fastmnist {
namespace {

struct ByteRows {
  const std::uint8_t* x;
  std::int64_t stride;
  std::int64_t count;  // of the list
};

constexpr std::int64_t kList = 64;  // behind the ByteRows

struct ByteRowsLayout {
  std::int64_t width, copies, bytes;

  explicit ByteRowsLayout(std::int64_t inputs)
      : width(round_up(inputs, kGroupInputs)),
        copies(aligned(kList + (width / kBlockInputs + kListPadding) * 2)),
        bytes(aligned(copies + kRowsOfBlock * width)) {}
};

// A tile of few rows by several panels at a time, unless that would be as many streams from far
// away: Own::by_panels<ROWS, PANELS, O>. Returns how many.
constexpr std::int64_t kNearInputs = 1024;

template <typename Own, int ROWS, Output O>
FASTMNIST_INLINE std::int64_t near_panels(const LinearArgs& args, std::byte* block, std::int64_t m,
                                          std::int64_t panel, std::int64_t end) {
  constexpr int PANELS = ROWS == 1 ? 6 : ROWS == 2 ? 3 : ROWS == 3 ? 2 : 1;
  if (args.w.inputs > kNearInputs || panel + PANELS > end) {
    Own::template by_panels<ROWS, 1, O>(args, block, m, panel);
    return 1;
  }
  Own::template by_panels<ROWS, PANELS, O>(args, block, m, panel);
  return PANELS;
}

struct ByteRowsBlock {
  static constexpr std::int64_t kWeightBytes = 1;

  static std::int64_t bytes(std::int64_t inputs) { return ByteRowsLayout(inputs).bytes; }

  template <int ROWS>
  static void prepare(const LinearArgs& args, std::int64_t m, std::byte* block) {
    const ByteRowsLayout at(args.w.inputs);
    ByteRows rows{args.x + m * args.x_stride, args.x_stride, 0};
    const std::uint8_t* last = rows.x + (ROWS - 1) * args.x_stride;
    const bool copy = last + round_up(args.w.inputs, kBlockInputs) > args.x_end;
    List live(reinterpret_cast<std::uint16_t*>(block + kList));
    for (std::int64_t k = 0; k < at.width; k += kGroupInputs) {
      __m256i any = _mm256_setzero_si256();
      unrolled<ROWS>([&](auto r) FASTMNIST_INLINE_BODY {
        const __m256i codes = load_codes(rows.x + r * args.x_stride, k, args.w.inputs);
        any = _mm256_or_si256(any, codes);
        if (copy)
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(block + at.copies + r * at.width + k),
                              codes);
      });
      live.add(k / kBlockInputs, nonzero_lanes(any));
    }
    if (copy) {
      rows.x = reinterpret_cast<const std::uint8_t*>(block + at.copies);
      rows.stride = at.width;
    }
    rows.count = live.count();
    *reinterpret_cast<ByteRows*>(block) = rows;
  }

  static ByteRows rows_of(const std::byte* block) {
    return *reinterpret_cast<const ByteRows*>(block);
  }
  static const std::uint16_t* list_of(const std::byte* block) {
    return reinterpret_cast<const std::uint16_t*>(block + kList);
  }
};

}  // namespace
}  // namespace fastmnist
