// The one table of instruction sets, best first. Dispatch, the limits, Python and the tests iterate
// it; nothing else lists them.
//
// A set stands on what the processor must have (core/cpu.h). It may take over the kernels of
// another (`base`): AMX has linear kernels only, few rows and everything else are AVX-512 VNNI's.
// Which kernels a build has says CMakeLists.txt, not this table: *built* and *the CPU has it* are
// separate questions.
#pragma once

#include <cstdint>

#include "core/features.h"

namespace fastmnist {

enum class Family : std::uint8_t { kAny, kX86, kArm, kWasm };

struct InstructionSet {
  const char* name;
  Family family;
  const char* base;  // the set whose kernels serve here, too; nullptr: none
  FeatureSet needs;
};

inline constexpr FeatureSet kAvx2Features = kAvx2 | kFma;
inline constexpr FeatureSet kAvx512VnniFeatures =
    kAvx2Features | kAvx512f | kAvx512dq | kAvx512bw | kAvx512vl | kAvx512Vnni;

inline constexpr InstructionSet kInstructionSets[] = {
    {"amx_int8", Family::kX86, "avx512_vnni", kAvx512VnniFeatures | kAmxTile | kAmxInt8},
    {"avx512_vnni", Family::kX86, nullptr, kAvx512VnniFeatures},
    {"avx2", Family::kX86, nullptr, kAvx2Features},
    {"scalar", Family::kAny, nullptr, 0},
};

}  // namespace fastmnist
