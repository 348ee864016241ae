// The library's exceptions. Bindings turn them into Python's: InvalidArgument into ValueError.
// Messages name the argument, what was expected and what came.
#pragma once

#include <cstdio>
#include <stdexcept>
#include <string>

#include "core/export.h"

namespace fastmnist {

class FASTMNIST_API InvalidArgument : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

// "<argument>: expected <expected>, got <got>"
[[noreturn]] inline void invalid(const std::string& argument, const std::string& expected,
                                 const std::string& got) {
  throw InvalidArgument(argument + ": expected " + expected + ", got " + got);
}

// As a message shows it: "1e-40", where std::to_string would write zeros.
inline std::string number_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

}  // namespace fastmnist
