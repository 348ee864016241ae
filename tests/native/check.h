// A test framework in one page: TEST defines a case, CHECK ends it where the condition is false.
#pragma once

#include <stdexcept>
#include <string>
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

// Whether `call` throws E; other exceptions pass through.
template <typename E, typename Call>
bool throws(Call call) {
  try {
    call();
  } catch (const E&) {
    return true;
  }
  return false;
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
