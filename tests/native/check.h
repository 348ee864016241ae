// A test framework in one page: TEST defines a case, CHECK ends it where the condition is false.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace check {

struct Case {
  const char* name;
  void (*run)();
};

inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Registered {
  Registered(const char* name, void (*run)()) { cases().push_back({name, run}); }
};

inline void require(bool condition, const char* text, const char* file, int line,
                    const std::string& where = "") {
  if (condition) return;
  throw Failure(std::string(file) + ":" + std::to_string(line) + ": " + text +
                (where.empty() ? "" : " (" + where + ")"));
}

// The case ends where a Status is not ok.
template <typename Status>
void ok(const Status& status, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  if (!status.ok()) require(false, status.text().c_str(), file, line);
}

// The value of a Result, where there is one.
template <typename Result>
auto value(Result result, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  ok(result.status(), file, line);
  return *std::move(result);
}

}  // namespace check

#define TEST(name)                                                \
  static void name();                                             \
  static const check::Registered registered_##name(#name, &name); \
  static void name()
#define CHECK(condition) check::require((condition), #condition, __FILE__, __LINE__)
// With words that say which of many cases it was.
#define CHECK_IN(where, condition) \
  check::require((condition), #condition, __FILE__, __LINE__, (where))
