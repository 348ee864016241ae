// Where kernels take their instructions from: the compiler, or plain code that does the same.
//
// Built with FASTMNIST_EMULATED a kernel runs on any processor, slowly, and makes the same bits: so
// every kernel is tested on every machine (tests/native/emulated/, which no other build needs).
// Kernel files include this instead of <immintrin.h>. What they say in assembly has its twin there,
// too; it is declared here or in amx_tile.h.
#pragma once

#if defined(FASTMNIST_EMULATED)
#include "emulated/intrinsics.h"
#else
#include <immintrin.h>
#endif
