// How the library says that it cannot do what was asked.
//
// core, kernels, pack, files and runtime throw nothing and are compiled with -fno-exceptions: a
// function that can fail returns a Status, or a Result that holds its value where there is one.
// What must not go unread is [[nodiscard]]. Bindings turn either into exceptions
// (bindings/errors.h).
//
//     Result<NetworkView> view = view_network(bytes);
//     if (!view.ok()) return std::move(view).status();
//     if (Status bad = check_rows(*view, type); !bad.ok()) return bad;
//
// Messages name the argument, what was expected and what came. A Status that is ok costs no more
// than a null pointer. Memory of the size of weights or rows is allocated by nothrow new, and its
// lack is a Status; containers are for what is small.
#pragma once

#include <cstdio>
#include <memory>
#include <string>
#include <utility>

namespace fastmnist {

class [[nodiscard]] Status {
 public:
  Status() = default;  // ok

  // "<argument>: expected <expected>, got <got>"
  static Status invalid(const std::string& argument, const std::string& expected,
                        const std::string& got) {
    return invalid(argument + ": expected " + expected + ", got " + got);
  }
  static Status invalid(std::string text) {
    return Status(Fault::kInvalid, std::make_unique<std::string>(std::move(text)));
  }
  static Status not_found(std::string text) {
    return Status(Fault::kNotFound, std::make_unique<std::string>(std::move(text)));
  }
  static Status out_of_memory() { return Status(Fault::kOutOfMemory, nullptr); }

  bool ok() const { return fault_ == Fault::kNone; }
  bool is_out_of_memory() const { return fault_ == Fault::kOutOfMemory; }
  bool is_not_found() const { return fault_ == Fault::kNotFound; }
  std::string text() const { return text_ != nullptr ? *text_ : ok() ? "ok" : "out of memory"; }

 private:
  enum class Fault : unsigned char { kNone, kInvalid, kNotFound, kOutOfMemory };

  Status(Fault fault, std::unique_ptr<std::string> text) : fault_(fault), text_(std::move(text)) {}

  Fault fault_ = Fault::kNone;
  std::unique_ptr<std::string> text_;
};

// A value, or why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}
  Result(Status status) : status_(std::move(status)) {}  // one that is not ok

  bool ok() const { return status_.ok(); }
  Status status() && { return std::move(status_); }
  const Status& status() const& { return status_; }

  // Only where ok().
  T& operator*() & { return value_; }
  const T& operator*() const& { return value_; }
  T operator*() && { return std::move(value_); }
  T* operator->() { return &value_; }
  const T* operator->() const { return &value_; }

 private:
  Status status_;
  T value_{};
};

// As a message shows it: "1e-40", where std::to_string would write zeros.
inline std::string number_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

}  // namespace fastmnist
