// Text to stdout, or to a file that then has all of it, or is as it was.
#pragma once

#include <string>
#include <string_view>

#include "core/status.h"

namespace fastmnist::run {

Status print(std::string_view text);

// Whether both are names of one file that there is.
bool are_one_file(const std::string& path, const std::string& other);

// Replaces a file, or makes one; pipes and devices are written to. "-": stdout.
Status write_output(const std::string& path, std::string_view text);

}  // namespace fastmnist::run
