// Canonical int8 weights to the sparse forms that core/types.h draws, one section per layer:
//
//     +--------+-------------------+---------------------------+----------------------------------+
//     | header | epilogues         | bitmask (if any)          | picks (if any)                   |
//     | 64 B   | 192 B a panel, as | value_starts, masks,      | pick_starts, window_starts,      |
//     |        | behind dense ones | values and their padding  | pick_blocks                      |
//     +--------+-------------------+---------------------------+----------------------------------+
//
// Everything starts at a multiple of 64 bytes. The constants of the epilogue are repeated here:
// among dense weights each panel's would be a walk to memory of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/export.h"
#include "core/types.h"
#include "pack/dense.h"

namespace fastmnist {

// Which forms; and how large they are, which is what their speed depends on.
struct SparseSizes {
  std::int64_t values = 0;       // bitmask: bytes that are not zero
  std::int64_t pick_blocks = 0;  // picks
  bool bitmask = false;
  bool picks = false;

  bool any() const { return bitmask || picks; }
};

// What packing this layer would take in the forms that may be worth trying.
// One pass over the weights, and one over those that are not zero.
FASTMNIST_API SparseSizes measure_sparse(const CanonicalLayer& layer);

// The same in given forms, whether or not they may be worth it.
FASTMNIST_API SparseSizes measure_forms(const CanonicalLayer& layer, bool bitmask, bool picks);

// Bytes of the section, a multiple of 64; 0 without a form.
FASTMNIST_API std::int64_t packed_sparse_bytes(const SparseSizes& sizes, std::int64_t inputs,
                                               std::int64_t outputs);

// Fills the section. `dense` is the same layer, packed.
FASTMNIST_API void pack_sparse(const CanonicalLayer& layer, const SparseSizes& sizes,
                               const PackedDense& dense, std::byte* section);

// The sizes that a section says it has, as far as they fit into so many bytes: {} where they don't.
FASTMNIST_API SparseSizes read_sparse_sizes(std::span<const std::byte> section, std::int64_t inputs,
                                            std::int64_t outputs);

// What kernels read. The section was checked by read_sparse_sizes.
FASTMNIST_API PackedSparse view_sparse(const std::byte* section, const SparseSizes& sizes,
                                       std::int64_t inputs, std::int64_t outputs);

// The dense view with the section's own constants.
FASTMNIST_API PackedDense with_sparse_epilogues(PackedDense dense, const std::byte* section);

}  // namespace fastmnist
