// Columns of text.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

namespace fastmnist::run {

// "12,345"
inline std::string grouped(std::size_t number) {
  std::string text = std::to_string(number);
  for (std::size_t at = text.size(); at > 3;) text.insert(at -= 3, ",");
  return text;
}

// Text to the left, numbers to the right, two blanks between columns.
class Table {
 public:
  // How many columns, from the first, have text.
  explicit Table(std::size_t text_columns) : text_columns_(text_columns) {}

  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }

  std::string text() const {
    std::vector<std::size_t> widths;
    for (const auto& row : rows_) {
      widths.resize(std::max(widths.size(), row.size()));
      for (std::size_t i = 0; i < row.size(); ++i)
        widths[i] = std::max(widths[i], width_of(row[i]));
    }
    std::string text;
    for (const auto& row : rows_) {
      std::string line;
      for (std::size_t i = 0; i < row.size(); ++i) {
        const std::string blanks(widths[i] - width_of(row[i]), ' ');
        line += (i > 0 ? "  " : "") + (i < text_columns_ ? row[i] + blanks : blanks + row[i]);
      }
      line.resize(line.find_last_not_of(' ') + 1);
      text += line + "\n";
    }
    return text;
  }

 private:
  // Letters of UTF-8, not bytes.
  static std::size_t width_of(const std::string& text) {
    return static_cast<std::size_t>(
        std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
  }

  std::size_t text_columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace fastmnist::run
