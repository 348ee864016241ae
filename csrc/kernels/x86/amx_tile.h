// AMX tile instructions as inline assembly.
//
// Not the compilers' intrinsics: GCC 12 declares _tile_loadd and _tile_loadconfig without a memory
// clobber and so drops or moves the stores that filled the memory they read. Every wrapper here
// says that it touches memory. The compiler does not know tile registers, so each function names
// its own: T, C, A, B are 0..7. Everything is in an anonymous namespace, as in a kernel file.
#pragma once

#include <cstdint>

#include "core/types.h"

namespace fastmnist {
namespace {

// The 64 bytes that LDTILECFG reads.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t bytes_per_row[16] = {};
  std::uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

}  // namespace
}  // namespace fastmnist

#if defined(FASTMNIST_EMULATED)
#include "emulated/amx_tile.h"
#else

namespace fastmnist {
namespace {

inline void tile_load_config(const TileConfig& config) {
  __asm__ volatile("ldtilecfg %0" : : "m"(config) : "memory");
}

inline void tile_release() { __asm__ volatile("tilerelease" : : : "memory"); }

template <int T>
inline void tile_zero() {
  __asm__ volatile("tilezero %%tmm%c0" : : "i"(T) : "memory");
}

// 16 rows of 64 bytes, `stride` bytes apart.
template <int T>
inline void tile_load(const void* base, std::int64_t stride) {
  __asm__ volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(T), "r"(base), "r"(stride) : "memory");
}

// The same for data that will not be needed again soon: it passes by the first-level cache, which
// the other operand keeps.
template <int T>
inline void tile_stream(const void* base, std::int64_t stride) {
  __asm__ volatile("tileloaddt1 (%1,%2,1), %%tmm%c0" : : "i"(T), "r"(base), "r"(stride) : "memory");
}

template <int T>
inline void tile_store(void* base, std::int64_t stride) {
  __asm__ volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(T), "r"(base), "r"(stride) : "memory");
}

// C[16x16 int32] += A[16x64 unsigned bytes] * B[64x16 signed bytes, in packed blocks].
template <int C, int A, int B>
inline void tile_multiply() {
  __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B) : "memory");
}

}  // namespace
}  // namespace fastmnist

#endif

namespace fastmnist {
namespace {

// All eight tiles are 16 rows of 64 bytes, for every kernel and the whole of a pass.
inline void tile_configure() {
  TileConfig config;
  for (int t = 0; t < 8; ++t) {
    config.bytes_per_row[t] = 64;
    config.rows[t] = 16;
  }
  tile_load_config(config);
}

}  // namespace

// One for all files: what runs a plan asks by its address whether a kernel's unit is set up.
extern const Unit kAmxUnit;  // amx_int8.cpp

}  // namespace fastmnist
