// Features of processors. No functions: kernel files include it (see core/types.h).
#pragma once

#include <cstdint>

namespace fastmnist {

// What kernels may need, by the names that Linux gives them in /proc/cpuinfo.
using FeatureSet = std::uint64_t;
inline constexpr FeatureSet kAvx2 = 1u << 0;
inline constexpr FeatureSet kFma = 1u << 1;
inline constexpr FeatureSet kAvx512f = 1u << 2;
inline constexpr FeatureSet kAvx512dq = 1u << 3;
inline constexpr FeatureSet kAvx512bw = 1u << 4;
inline constexpr FeatureSet kAvx512vl = 1u << 5;
inline constexpr FeatureSet kAvx512Vnni = 1u << 6;
inline constexpr FeatureSet kAvx512Vbmi = 1u << 7;
inline constexpr FeatureSet kAvx512Vbmi2 = 1u << 8;
inline constexpr FeatureSet kAmxTile = 1u << 9;
inline constexpr FeatureSet kAmxInt8 = 1u << 10;

}  // namespace fastmnist
