// What the processor has and the operating system allows. Two questions, two functions: a kernel
// needs both answers to be yes (a hypervisor or an old kernel may not save wide registers).
#pragma once

#include <string>

#include "core/export.h"
#include "core/features.h"

namespace fastmnist {

// Whether this build's kernels are emulated (kernels/x86/intrinsics.h): then any processor has all.
#if defined(FASTMNIST_EMULATED)
inline constexpr bool kEmulated = true;
#else
inline constexpr bool kEmulated = false;
#endif

// "" where the processor has all of them and the operating system saves their registers; otherwise
// what is missing, e.g. "the CPU lacks avx512_vnni".
FASTMNIST_API std::string missing(FeatureSet needed);

// The processor's own name for itself, or "unknown".
FASTMNIST_API std::string cpu_model();

}  // namespace fastmnist
