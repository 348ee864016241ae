// The instruction sets that can be used, and the one that is.
//
// *Built* (CMakeLists.txt), *the CPU has it* and *the OS allows it* (core/cpu.h) and *not capped*
// (FASTMNIST_ISA) are separate questions; dispatch.cpp asks them in that order of every row of
// core/isa.h, best set first.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/export.h"
#include "core/isa.h"
#include "core/status.h"
#include "core/types.h"

namespace fastmnist {

// One rung of the ladder and, in words a user can read, why it was not taken ("" where it serves).
struct Rung {
  const char* name;
  const KernelTable* kernels;  // nullptr where this build has none
  std::string refusal;
};

// Every instruction set that the library knows, best first, always ending in "scalar".
FASTMNIST_API std::vector<Rung> ladder();

// The kernels in use: the best usable rung not above FASTMNIST_ISA. Decided at the first call.
// Refused for a value of FASTMNIST_ISA that is not a name of the ladder; else never nullptr.
FASTMNIST_API Result<const KernelTable*> active_kernels();

// Those of a set by its name. Refused where the name is unknown or this machine cannot run it.
FASTMNIST_API Result<const KernelTable*> kernels_named(std::string_view isa);

// The rung's index in ladder(), of a table that is in it.
FASTMNIST_API int rung_of(const KernelTable& kernels);

// Takes another rung from now on (for tests and comparisons); refused as by kernels_named. Returns
// the name that was active.
FASTMNIST_API Result<std::string> set_active_kernels(std::string_view isa);

// For people: set, loop, rows x panels of its tile, form of weights: "amx_int8 narrow 16x2",
// "avx512_vnni 8x1 bitmask".
FASTMNIST_API std::string name_of(const LinearKernel& kernel);

// "dense", "bitmask", ...
FASTMNIST_API const char* name_of(WeightForm form);

// The forms beside the dense one that some kernel reads.
FASTMNIST_API std::vector<WeightForm> readable_forms(const KernelTable& kernels);

}  // namespace fastmnist
