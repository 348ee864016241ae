// JSON, written as it comes.
#pragma once

#include <charconv>
#include <cmath>
#include <cstdio>
#include <string>
#include <string_view>

#include "files/utf8.h"

namespace fastmnist::run {

class JsonWriter {
 public:
  JsonWriter& begin_object() { return open('{'); }
  JsonWriter& end_object() { return close('}'); }
  JsonWriter& begin_array() { return open('['); }
  JsonWriter& end_array() { return close(']'); }
  JsonWriter& key(std::string_view name) {
    quote(name);
    text_ += ": ";
    is_first_ = true;  // no comma before its value
    return *this;
  }

  JsonWriter& value(std::string_view text) {
    quote(text);
    return *this;
  }
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(bool is) { return raw(is ? "true" : "false"); }
  JsonWriter& value(std::size_t number) { return raw(std::to_string(number)); }
  JsonWriter& value(std::int64_t number) { return raw(std::to_string(number)); }
  JsonWriter& value(int number) { return raw(std::to_string(number)); }
  // The fewest digits that give it again; null where it is no number.
  JsonWriter& value(double number) {
    if (!std::isfinite(number)) return null();
    char digits[64];
    const auto end = std::to_chars(digits, digits + sizeof digits, number).ptr;
    return raw(std::string_view(digits, static_cast<std::size_t>(end - digits)));
  }
  JsonWriter& null() { return raw("null"); }

  const std::string& text() const { return text_; }

 private:
  JsonWriter& raw(std::string_view text) {
    separate();
    text_ += text;
    return *this;
  }
  JsonWriter& open(char bracket) {
    separate();
    text_ += bracket;
    is_first_ = true;
    return *this;
  }
  JsonWriter& close(char bracket) {
    text_ += bracket;
    is_first_ = false;
    return *this;
  }
  void separate() {
    if (!is_first_) text_ += ", ";
    is_first_ = false;
  }
  // File names may be any bytes: what is no UTF-8 is U+FFFD.
  void quote(std::string_view text) {
    separate();
    text_ += '"';
    while (!text.empty()) {
      const auto c = static_cast<unsigned char>(text[0]);
      const std::size_t length = utf8_length(text);
      if (length == 0) {
        text_ += "\\ufffd";
      } else if (c == '"' || c == '\\') {
        (text_ += '\\') += text[0];
      } else if (c < 0x20) {
        char escape[8];
        std::snprintf(escape, sizeof escape, "\\u%04x", c);
        text_ += escape;
      } else {
        text_ += text.substr(0, length);
      }
      text.remove_prefix(length == 0 ? 1 : length);
    }
    text_ += '"';
  }

  std::string text_;
  bool is_first_ = true;
};

}  // namespace fastmnist::run
