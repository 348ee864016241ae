// JSON: whatever is taken can be walked from end to end.
#include <string_view>

#include "files/json.h"
#include "fuzz.h"

using namespace fastmnist;

namespace {

// How many values there are below this one, itself included.
std::size_t walk(const JsonValue& value, int depth) {
  if (depth > kMostJsonDepth + 1) std::abort();
  std::size_t count = 1, children = 0, bytes = 0;
  for (const char c : value.text()) bytes += c != '\0';
  for (const JsonValue child : value) {
    count += walk(child, depth + 1);
    ++children;
    if (!value.is_object()) continue;
    const auto found = value.find(child.key());
    if (!found.has_value() || found->kind() != child.kind()) std::abort();
  }
  if (children != value.size() && (value.is_object() || value.is_array())) std::abort();
  if (value.integer().has_value() && !value.is_number()) std::abort();
  return count + (bytes > value.text().size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const Result<Json> json = Json::parse({reinterpret_cast<const char*>(data), size});
  if (json.ok() && walk(json->root(), 1) > size) std::abort();
  return 0;
}
