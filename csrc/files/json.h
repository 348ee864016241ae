// JSON as model files hold it, read without trust: strict, in memory that grows with the text
// alone.
//
// A document is one array of nodes in the order of the text, each with the index behind its last
// child, so that there are no pointers to follow and nothing to free by itself:
//
//     {"a": [1, 2], "b": "x"}      0 object, next 5
//                                  1 array  "a", next 4
//                                  2 number 1, next 3
//                                  3 number 2, next 4
//                                  4 string "b", next 5
//
// Texts are kept without their escapes, in one buffer, or stay where they are. Refused are what is
// no JSON, what nests deeper than kMostJsonDepth, a key that an object has twice, half a surrogate
// pair, and text that is no UTF-8. NaN, Infinity and -Infinity are numbers, as Python writes them.
// 40 bytes a node: at most 20 for each byte of text.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/export.h"
#include "core/status.h"

namespace fastmnist {

inline constexpr int kMostJsonDepth = 64;

enum class JsonKind : std::uint8_t { kNull, kFalse, kTrue, kNumber, kString, kArray, kObject };

// What a message calls it: "list", "dict", as Python does.
inline const char* name_of(JsonKind kind) {
  constexpr const char* kNames[] = {"null", "false", "true", "number", "str", "list", "dict"};
  return kNames[static_cast<int>(kind)];
}

struct JsonNode {
  JsonKind kind = JsonKind::kNull;
  bool is_integer = false;  // a number without point or exponent
  std::uint32_t next = 0;   // the node behind this one and all that is in it
  double number = 0;
  std::string_view key;   // of an object's member
  std::string_view text;  // of a string
};

// A look at one node; valid as long as its document. One without a node is null.
class JsonValue {
 public:
  JsonValue() = default;
  JsonValue(const JsonNode* nodes, std::uint32_t at) : nodes_(nodes), at_(at) {}

  JsonKind kind() const { return nodes_ != nullptr ? node().kind : JsonKind::kNull; }
  bool is_object() const { return kind() == JsonKind::kObject; }
  bool is_array() const { return kind() == JsonKind::kArray; }
  bool is_string() const { return kind() == JsonKind::kString; }
  bool is_number() const { return kind() == JsonKind::kNumber; }
  bool is_true() const { return kind() == JsonKind::kTrue; }
  bool is_null() const { return kind() == JsonKind::kNull; }

  std::string_view key() const { return nodes_ != nullptr ? node().key : std::string_view(); }
  std::string_view text() const { return nodes_ != nullptr ? node().text : std::string_view(); }
  double number() const { return nodes_ != nullptr ? node().number : 0; }
  // A whole number of magnitude 2^53 at most, written without point or exponent.
  std::optional<std::int64_t> integer() const {
    constexpr double kMost = 9007199254740992.0;  // 2^53
    if (!is_number() || !node().is_integer || std::fabs(number()) > kMost) return std::nullopt;
    return static_cast<std::int64_t>(number());
  }

  // Of an object; nothing where there is no such member, or this is no object.
  std::optional<JsonValue> find(std::string_view key) const {
    if (!is_object()) return std::nullopt;
    for (const JsonValue member : *this)
      if (member.key() == key) return member;
    return std::nullopt;
  }
  // Of an array or object.
  std::size_t size() const {
    std::size_t count = 0;
    for (Iterator i = begin(); i != end(); ++i) ++count;
    return count;
  }

  // Over an array's elements or an object's members.
  class Iterator {
   public:
    Iterator(const JsonNode* nodes, std::uint32_t at) : nodes_(nodes), at_(at) {}
    JsonValue operator*() const { return {nodes_, at_}; }
    Iterator& operator++() {
      at_ = nodes_[at_].next;
      return *this;
    }
    bool operator!=(const Iterator& other) const { return at_ != other.at_; }

   private:
    const JsonNode* nodes_;
    std::uint32_t at_;
  };
  Iterator begin() const { return {nodes_, has_children() ? at_ + 1 : 0}; }
  Iterator end() const { return {nodes_, has_children() ? node().next : 0}; }

 private:
  const JsonNode& node() const { return nodes_[at_]; }
  bool has_children() const { return is_array() || is_object(); }

  const JsonNode* nodes_ = nullptr;
  std::uint32_t at_ = 0;
};

class FASTMNIST_API Json {
 public:
  Json() = default;
  // The text must live as long as the document.
  static Result<Json> parse(std::string_view text);

  JsonValue root() const { return nodes_.empty() ? JsonValue() : JsonValue(nodes_.data(), 0); }

 private:
  friend class JsonParser;
  std::vector<JsonNode> nodes_;
  std::unique_ptr<char[]> texts_;  // of strings with escapes
};

}  // namespace fastmnist
