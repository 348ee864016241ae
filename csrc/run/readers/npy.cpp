#include "run/readers/npy.h"

#include <charconv>
#include <optional>
#include <string_view>

namespace fastmnist::run {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";

// A dict as numpy writes it: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 28, 28), }. What
// stands in it are those three keys, each once, in any order; of Python's literals it knows only
// what they need.
class HeaderParser {
 public:
  explicit HeaderParser(std::string_view text) : text_(text) {}

  Status parse(Array& array) {
    bool sound = take('{');
    while (sound && peek() != '}') {
      const std::optional<std::string_view> key = string();
      sound = key.has_value() && take(':');
      if (!sound) break;
      Result<bool> known = field(*key, array);
      if (!known.ok()) return std::move(known).status();
      sound = *known && (take(',') || peek() == '}');
    }
    sound = sound && take('}') && has_descr_ && has_order_ && has_shape_;
    skip_blanks();
    if (!sound || at_ != text_.size())
      return Status::invalid("expected an npy header with descr, fortran_order and shape, got '" +
                             safe(text_) + "'");
    if (array.shape.empty())
      return Status::invalid("expected an array of at least one dimension, got a single number");
    return {};
  }

 private:
  // Reads what stands behind a key; false where it is none of the three, or none that can be.
  Result<bool> field(std::string_view key, Array& array) {
    if (key == "descr" && !has_descr_) {
      has_descr_ = true;
      if (peek() == '[') return Status::invalid("expected numbers, got records (a list of fields)");
      const std::optional<std::string_view> type = string();
      if (!type.has_value()) return false;
      if (Status bad = element(*type, array.element); !bad.ok()) return bad;
      return true;
    }
    if (key == "fortran_order" && !has_order_) {
      has_order_ = true;
      if (!word("True")) return word("False");
      return Status::invalid(
          "expected C order, got Fortran order: save numpy.ascontiguousarray(x)");
    }
    if (key != "shape" || has_shape_) return false;
    has_shape_ = true;
    return dimensions(array.shape);
  }

  static Status element(std::string_view type, Element& element) {
    struct Known {
      std::string_view name;
      Element element;
    };
    constexpr Known kKnown[] = {{"|u1", Element::kUint8},   {"|i1", Element::kInt8},
                                {"<u2", Element::kUint16},  {"<i2", Element::kInt16},
                                {"<u4", Element::kUint32},  {"<i4", Element::kInt32},
                                {"<u8", Element::kUint64},  {"<i8", Element::kInt64},
                                {"<f4", Element::kFloat32}, {"<f8", Element::kFloat64}};
    for (const Known& known : kKnown)
      if (known.name == type) {
        element = known.element;
        return {};
      }
    if (type.find('O') != type.npos)
      return Status::invalid("expected numbers, got objects, which would have to be unpickled");
    if (type.starts_with('>'))
      return Status::invalid("expected little-endian numbers, got '" + safe(type) +
                             "': save x.astype(x.dtype.newbyteorder('<'))");
    return Status::invalid("expected uint8, float32 or float64 (labels: integers), got '" +
                           safe(type) + "'");
  }

  bool dimensions(std::vector<std::size_t>& shape) {
    if (!take('(')) return false;
    while (peek() != ')') {
      std::size_t n = 0;
      const char* const end = text_.data() + text_.size();
      const auto [stop, error] = std::from_chars(text_.data() + at_, end, n);
      if (error != std::errc() || shape.size() == kMostDimensions) return false;
      at_ = static_cast<std::size_t>(stop - text_.data());
      shape.push_back(n);
      if (!take(',') && peek() != ')') return false;
    }
    return take(')');
  }

  std::optional<std::string_view> string() {
    skip_blanks();
    const char quote = peek();
    if (quote != '\'' && quote != '"') return std::nullopt;
    const std::size_t end = text_.find(quote, at_ + 1);
    if (end == text_.npos) return std::nullopt;
    const std::string_view found = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return found.find('\\') == found.npos ? std::optional(found) : std::nullopt;
  }
  bool word(std::string_view expected) {
    skip_blanks();
    if (!text_.substr(at_).starts_with(expected)) return false;
    at_ += expected.size();
    return true;
  }
  bool take(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  char peek() {
    skip_blanks();
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  void skip_blanks() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }

  // What a terminal can show of it.
  static std::string safe(std::string_view text) {
    std::string shown(text.substr(0, 100));
    for (char& c : shown)
      if (c < 0x20 || c > 0x7e) c = '?';
    return shown;
  }
  std::string_view text_;
  std::size_t at_ = 0;
  bool has_descr_ = false, has_order_ = false, has_shape_ = false;
};

}  // namespace

bool is_npy(ByteSpan bytes) {
  if (bytes.size() < kMagic.size()) return false;
  return std::string_view(reinterpret_cast<const char*>(bytes.data()), kMagic.size()) == kMagic;
}

Result<Array> view_npy(ByteSpan bytes) {
  const std::size_t version_at = kMagic.size(), length_at = version_at + 2;
  if (!is_npy(bytes)) return Status::invalid("expected an npy file, got another, or its beginning");
  if (bytes.size() < length_at + 4)
    return Status::invalid("expected an npy header, got the end: it is truncated");
  const int version = bytes[version_at];
  if (version < 1 || version > 3 || bytes[version_at + 1] != 0)
    return Status::invalid("expected npy of version 1.0, 2.0 or 3.0, got " +
                           std::to_string(version) + "." + std::to_string(bytes[version_at + 1]));
  const std::size_t width = version == 1 ? 2 : 4;
  std::size_t length = 0;
  for (std::size_t i = width; i-- > 0;) length = length << 8 | bytes[length_at + i];
  const std::size_t begin = length_at + width;
  if (bytes.size() - begin < length)
    return Status::invalid("expected an npy header of " + std::to_string(length) + " bytes, got " +
                           std::to_string(bytes.size() - begin) + ": it is truncated");
  Array array;
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + begin, length);
  if (Status bad = HeaderParser(text).parse(array); !bad.ok()) return bad;
  array.bytes = bytes.subspan(begin + length);
  if (Status bad = check_size(array); !bad.ok()) return bad;
  return array;
}

}  // namespace fastmnist::run
