// How AVX2 kernels for many rows walk a layer: blocks of up to six rows, prepared once, groups of
// panels that stay in the second-level cache.
//
//                  group of panels     next group
//     rows 0-5    [ p p p p p p p ]   [ p p ...        one group: a block is prepared, and used while
//     rows 6-11   [ p p p p p p p ]   [ p p ...        it is in the first-level cache; several: all
//     ...                                              blocks are prepared in the first
//
// A kernel is a class `Block` with
//     kWeightBytes                                                of a weight
//     static std::int64_t bytes(std::int64_t inputs)              of a prepared block, a multiple of 64
//     static void prepare<ROWS>(args, m, block)                   rows m, m + 1, ...
//     static std::int64_t tile<ROWS, O>(args, block, m, panel, end)   by panels; returns how many
// In an anonymous namespace, as kernel files need it.
#pragma once

#include "core/types.h"
#include "kernels/sizes.h"
#include "kernels/x86/avx2_epilogue.h"

namespace fastmnist {
namespace {

constexpr int kRowsOfBlock = 6;
constexpr std::int64_t kGroupBytes = 160 * 1024;
// Blocks that are prepared together where there are several groups.
constexpr std::int64_t kPreparedBytes = 2 * 1024 * 1024;

template <typename Block>
std::int64_t group_panels(std::int64_t inputs) {
  const std::int64_t panel = round_up(inputs, kInputPadding) * kPanelOutputs * Block::kWeightBytes;
  const std::int64_t fit = kGroupBytes / panel;
  return fit > 1 ? fit : 1;
}

template <typename Block>
std::int64_t blocks_at_once(std::int64_t rows, std::int64_t inputs, std::int64_t outputs) {
  if (group_panels<Block>(inputs) >= panels_of(outputs)) return 1;
  const std::int64_t fit = kPreparedBytes / Block::bytes(inputs);
  const std::int64_t all = divide_up(rows, kRowsOfBlock);
  return fit < 1 ? 1 : all < fit ? all : fit;
}

template <typename Block>
std::int64_t blocks_bytes(const LinearShape& shape) {
  return blocks_at_once<Block>(shape.rows, shape.inputs, shape.outputs) *
         Block::bytes(shape.inputs);
}

template <typename Block, int ROWS, Output O>
void one_block(const LinearArgs& args, std::byte* block, std::int64_t m, std::int64_t panel,
               std::int64_t end) {
  if (panel == 0) Block::template prepare<ROWS>(args, m, block);
  while (panel < end) panel += Block::template tile<ROWS, O>(args, block, m, panel, end);
}

using OneBlock = void (*)(const LinearArgs&, std::byte*, std::int64_t, std::int64_t, std::int64_t);
template <typename Block, Output O>
constexpr OneBlock kOneBlock[kRowsOfBlock] = {one_block<Block, 1, O>, one_block<Block, 2, O>,
                                              one_block<Block, 3, O>, one_block<Block, 4, O>,
                                              one_block<Block, 5, O>, one_block<Block, 6, O>};

template <typename Block, Output O>
void over_blocks(const LinearArgs& args) {
  const std::int64_t panels = panels_of(args.w.outputs);
  const std::int64_t group = group_panels<Block>(args.w.inputs);
  const std::int64_t rows =
      kRowsOfBlock * blocks_at_once<Block>(args.rows, args.w.inputs, args.w.outputs);
  const std::int64_t bytes = Block::bytes(args.w.inputs);
  for (std::int64_t first = 0; first < args.rows; first += rows) {
    const std::int64_t end = args.rows - first < rows ? args.rows : first + rows;
    for (std::int64_t panel = 0; panel < panels; panel += group) {
      const std::int64_t last = panels - panel < group ? panels : panel + group;
      auto* block = static_cast<std::byte*>(args.scratch);
      for (std::int64_t m = first; m < end; m += kRowsOfBlock, block += bytes) {
        const std::int64_t left = end - m;
        kOneBlock<Block, O>[(left < kRowsOfBlock ? left : kRowsOfBlock) - 1](args, block, m, panel,
                                                                             last);
      }
    }
  }
}

}  // namespace
}  // namespace fastmnist
