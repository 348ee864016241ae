// Compressed bytes, by zlib; refused in a build without it.
#pragma once

#include "run/readers/memory.h"

namespace fastmnist::run {

#if defined(FASTMNIST_ZLIB)
inline constexpr bool kZlib = true;
#else
inline constexpr bool kZlib = false;
#endif

// A byte of deflate is at most so many (a run of 258 in two bits). What claims to be longer is
// refused before memory is taken.
inline constexpr std::size_t kMostInflation = 1032;

bool is_gzip(ByteSpan bytes);

// The content of a gzip file, of one member or several, checksums checked. Takes at most three
// times as much memory as comes out, which is at most kMostFileBytes.
Result<Bytes> gunzip(ByteSpan bytes);

// A zlib stream that lies in several parts, and is `size` bytes: no fewer and no more.
Result<Bytes> inflate_parts(std::span<const ByteSpan> parts, std::size_t size);

// CRC-32 as in PNG.
std::uint32_t crc_of(ByteSpan bytes);

}  // namespace fastmnist::run
