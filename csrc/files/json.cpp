#include "files/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <new>

#include "files/utf8.h"

namespace fastmnist {

namespace {

// Whatever the locale is.
double to_double(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc::result_out_of_range) return value;
  const bool tiny = text.find("e-") != text.npos || text.find("E-") != text.npos;
  value = tiny ? 0 : std::numeric_limits<double>::infinity();
  return text.front() == '-' ? -value : value;
}

}  // namespace

class JsonParser {
 public:
  JsonParser(std::string_view text, Json& into) : text_(text), json_(into) {}

  Status parse() {
    skip_space();
    if (!value({}, 0)) return refusal();
    skip_space();
    return at_ == text_.size() ? Status() : refusal();
  }

 private:
  Status refusal() const {
    if (no_memory_) return Status::out_of_memory();
    return Status::invalid("JSON: expected " + expected_ + ", got something else at byte " +
                           std::to_string(at_));
  }
  bool refuse(const char* expected) {
    expected_ = expected;
    return false;
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void skip_space() {
    while (peek() == ' ' || peek() == '\n' || peek() == '\r' || peek() == '\t') ++at_;
  }
  bool take(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  bool take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  bool value(std::string_view key, int depth) {
    if (json_.nodes_.size() >= std::numeric_limits<std::uint32_t>::max())
      return refuse("fewer values");
    const std::size_t own = json_.nodes_.size();
    json_.nodes_.push_back({});
    json_.nodes_[own].key = key;
    if (!content(own, depth)) return false;
    json_.nodes_[own].next = static_cast<std::uint32_t>(json_.nodes_.size());
    return true;
  }

  bool content(std::size_t own, int depth) {
    const char c = peek();
    if (c == '{' || c == '[') {
      if (depth >= kMostJsonDepth) return refuse("fewer lists in lists");
      json_.nodes_[own].kind = c == '{' ? JsonKind::kObject : JsonKind::kArray;
      ++at_;
      return c == '{' ? members(own, depth) : elements(depth);
    }
    JsonNode& node = json_.nodes_[own];
    if (c == '"') {
      node.kind = JsonKind::kString;
      return string(node.text);
    }
    if (take("true")) return set(node, JsonKind::kTrue);
    if (take("false")) return set(node, JsonKind::kFalse);
    if (take("null")) return set(node, JsonKind::kNull);
    node.kind = JsonKind::kNumber;
    return number(node);
  }
  static bool set(JsonNode& node, JsonKind kind) {
    node.kind = kind;
    return true;
  }

  bool elements(int depth) {
    skip_space();
    if (take(']')) return true;
    do {
      skip_space();
      if (!value({}, depth + 1)) return false;
      skip_space();
    } while (take(','));
    return take(']') || refuse("a comma or the end of a list");
  }

  bool members(std::size_t own, int depth) {
    skip_space();
    if (take('}')) return true;
    std::size_t count = 0;
    do {
      skip_space();
      std::string_view key;
      if (!string(key)) return false;
      skip_space();
      if (!take(':')) return refuse("a colon");
      skip_space();
      if (!value(key, depth + 1)) return false;
      skip_space();
      ++count;
    } while (take(','));
    if (!take('}')) return refuse("a comma or the end of an object");
    return has_each_key_once(own, count);
  }

  bool has_each_key_once(std::size_t own, std::size_t count) {
    std::vector<std::string_view> keys;
    keys.reserve(count);
    for (std::size_t i = own + 1; i < json_.nodes_.size(); i = json_.nodes_[i].next)
      keys.push_back(json_.nodes_[i].key);
    std::sort(keys.begin(), keys.end());
    return std::adjacent_find(keys.begin(), keys.end()) == keys.end() ||
           refuse("each key of an object once");
  }

  bool number(JsonNode& node) {
    if (take("NaN")) node.number = std::numeric_limits<double>::quiet_NaN();
    if (take("Infinity")) node.number = std::numeric_limits<double>::infinity();
    if (take("-Infinity")) node.number = -std::numeric_limits<double>::infinity();
    if (!std::isfinite(node.number)) return true;
    const std::size_t begin = at_;
    take('-');
    if (!take('0') && !digits()) return refuse("a value");
    node.is_integer = true;
    if (take('.')) {
      node.is_integer = false;
      if (!digits()) return refuse("digits behind the point");
    }
    if (peek() == 'e' || peek() == 'E') {
      node.is_integer = false;
      ++at_;
      if (!take('+')) take('-');
      if (!digits()) return refuse("digits of an exponent");
    }
    node.number = to_double(text_.substr(begin, at_ - begin));
    return true;
  }
  bool digits() {
    const std::size_t begin = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    return at_ > begin;
  }

  bool string(std::string_view& text) {
    if (!take('"')) return refuse("a string");
    const std::size_t begin = at_;
    char* decoded = nullptr;  // where there are escapes
    while (true) {
      const char c = peek();
      if (at_ >= text_.size() || static_cast<unsigned char>(c) < 0x20)
        return refuse("the end of a string");
      if (c == '"') break;
      if (c == '\\') {
        if (decoded == nullptr && (decoded = room()) == nullptr) return false;
        if (decoded == texts_end_) {
          std::copy(text_.data() + begin, text_.data() + at_, decoded);
          texts_end_ += at_ - begin;
        }
        if (!escape()) return false;
        continue;
      }
      const std::size_t length = utf8_length(text_.substr(at_));
      if (length == 0) return refuse("UTF-8");
      if (decoded != nullptr) {
        std::copy(text_.data() + at_, text_.data() + at_ + length, texts_end_);
        texts_end_ += length;
      }
      at_ += length;
    }
    text = decoded != nullptr
               ? std::string_view(decoded, static_cast<std::size_t>(texts_end_ - decoded))
               : text_.substr(begin, at_ - begin);
    ++at_;
    return true;
  }

  // Where decoded text goes: what all escapes stand for takes fewer bytes than they do.
  char* room() {
    if (json_.texts_ == nullptr) {
      json_.texts_.reset(new (std::nothrow) char[text_.size()]);
      texts_end_ = json_.texts_.get();
      no_memory_ = texts_end_ == nullptr;
    }
    return texts_end_;
  }

  bool escape() {
    constexpr std::string_view kLetters = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
    ++at_;
    const char letter = peek();
    if (letter != 'u') {
      const std::size_t which = kLetters.find(letter);
      if (letter == '\0' || which == kLetters.npos) return refuse("an escape");
      ++at_;
      *texts_end_++ = kMeanings[which];
      return true;
    }
    std::uint32_t code = 0;
    if (!code_unit(code)) return false;
    if (code >= 0xdc00 && code <= 0xdfff) return refuse("a whole surrogate pair");
    if (code >= 0xd800 && code <= 0xdbff) {
      std::uint32_t low = 0;
      if (!take('\\') || !code_unit(low) || low < 0xdc00 || low > 0xdfff)
        return refuse("a whole surrogate pair");
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    texts_end_ += encode_utf8(code, texts_end_);
    return true;
  }
  // uXXXX
  bool code_unit(std::uint32_t& code) {
    if (!take('u') || at_ + 4 > text_.size()) return refuse("an escape");
    const char* const end = text_.data() + at_ + 4;
    const auto [stop, error] = std::from_chars(text_.data() + at_, end, code, 16);
    if (error != std::errc() || stop != end) return refuse("an escape of four digits");
    at_ += 4;
    return true;
  }
  std::string_view text_;
  Json& json_;
  std::size_t at_ = 0;
  std::string expected_ = "the end";
  char* texts_end_ = nullptr;
  bool no_memory_ = false;
};

Result<Json> Json::parse(std::string_view text) {
  Json json;
  JsonParser parser(text, json);
  if (Status bad = parser.parse(); !bad.ok()) return bad;
  return json;
}

}  // namespace fastmnist
