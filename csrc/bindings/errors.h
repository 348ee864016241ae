// What the library's Status becomes for Python and torch, whose callers expect exceptions:
// InvalidArgument (ValueError in Python) or std::bad_alloc (MemoryError).
#pragma once

#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include "core/status.h"

namespace fastmnist::bindings {

class InvalidArgument : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

[[noreturn]] inline void raise(const Status& status) {
  if (status.is_out_of_memory()) throw std::bad_alloc();
  throw InvalidArgument(status.text());
}

// "<argument>: expected <expected>, got <got>"
[[noreturn]] inline void invalid(const std::string& argument, const std::string& expected,
                                 const std::string& got) {
  raise(Status::invalid(argument, expected, got));
}

inline void unwrap(const Status& status) {
  if (!status.ok()) raise(status);
}

template <typename T>
T unwrap(Result<T> result) {
  if (!result.ok()) raise(result.status());
  return *std::move(result);
}

}  // namespace fastmnist::bindings
