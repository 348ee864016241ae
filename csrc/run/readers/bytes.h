// All bytes of a file.
#pragma once

#include <string>

#include "run/readers/memory.h"

namespace fastmnist::run {

// No file is read that is longer.
inline constexpr std::size_t kMostFileBytes =
    sizeof(std::size_t) > 4 ? std::size_t{1} << 32 : std::size_t{1} << 30;

// Of a file or a pipe. Takes at most three times as much memory as it reads.
Result<Bytes> read_bytes(const std::string& path);

}  // namespace fastmnist::run
