// What the processor has and the operating system allows. Two questions, two functions: a kernel
// needs both answers to be yes (a hypervisor or an old kernel may not save wide registers).
#pragma once

#include <string>

#include "core/export.h"
#include "core/features.h"

namespace fastmnist {

// "" where the processor has all of them and the operating system saves their registers; otherwise
// what is missing, e.g. "the CPU lacks avx512_vnni".
FASTMNIST_API std::string missing(FeatureSet needed);

// The processor's own name for itself, or "unknown".
FASTMNIST_API std::string cpu_model();

}  // namespace fastmnist
