#include "run/readers/pgm.h"

#include <optional>

namespace fastmnist::run {
namespace {

bool is_blank(std::uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_digit(std::uint8_t c) { return c >= '0' && c <= '9'; }

// Numbers with blanks and comments between them.
class Numbers {
 public:
  explicit Numbers(ByteSpan bytes) : bytes_(bytes) {}

  // The next, of six digits at most, with a blank or the end behind it, which stays.
  std::optional<std::size_t> next() {
    skip();
    std::size_t number = 0, digits = 0;
    for (; at_ < bytes_.size() && is_digit(bytes_[at_]); ++at_, ++digits) {
      if (digits == 6) return std::nullopt;
      number = 10 * number + (bytes_[at_] - std::size_t{'0'});
    }
    if (digits == 0 || (at_ < bytes_.size() && !is_blank(bytes_[at_]) && bytes_[at_] != '#'))
      return std::nullopt;
    return number;
  }
  void skip() {
    for (; at_ < bytes_.size(); ++at_) {
      if (bytes_[at_] == '#')
        while (at_ + 1 < bytes_.size() && bytes_[at_] != '\n' && bytes_[at_] != '\r') ++at_;
      else if (!is_blank(bytes_[at_]))
        return;
    }
  }
  ByteSpan rest() const { return bytes_.subspan(at_); }

 private:
  ByteSpan bytes_;
  std::size_t at_ = 0;
};

std::uint8_t scaled(std::size_t value, std::size_t most) {
  return static_cast<std::uint8_t>((value * 255 + most / 2) / most);
}

Status above(std::size_t value, std::size_t most) {
  return Status::invalid("expected pixels up to " + std::to_string(most) + ", got " +
                         std::to_string(value));
}

Status read_bytes_into(ByteSpan bytes, std::size_t most, Bytes& pixels) {
  if (bytes.size() != pixels.size())
    return Status::invalid("expected " + std::to_string(pixels.size()) + " bytes of pixels, got " +
                           std::to_string(bytes.size()) +
                           (bytes.size() < pixels.size() ? ": it is truncated" : ""));
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] > most) return above(bytes[i], most);
    pixels[i] = scaled(bytes[i], most);
  }
  return {};
}

Status read_digits_into(Numbers& numbers, std::size_t most, Bytes& pixels) {
  for (std::size_t i = 0; i < pixels.size(); ++i) {
    const std::optional<std::size_t> value = numbers.next();
    if (!value.has_value())
      return Status::invalid("expected " + std::to_string(pixels.size()) + " pixels, got " +
                             std::to_string(i) + " numbers, then something else or the end");
    if (*value > most) return above(*value, most);
    pixels[i] = scaled(*value, most);
  }
  numbers.skip();
  if (!numbers.rest().empty()) return Status::invalid("expected one picture, got more behind it");
  return {};
}

}  // namespace

bool is_pgm(ByteSpan bytes) {
  return bytes.size() >= 2 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '7';
}

Result<Picture> read_pgm(ByteSpan bytes) {
  if (!is_pgm(bytes)) return Status::invalid("expected a PGM picture, got another file");
  const bool digits = bytes[1] == '2';
  if (!digits && bytes[1] != '5')
    return Status::invalid("expected a gray picture, P2 or P5, got P" +
                           std::string(1, static_cast<char>(bytes[1])));
  Numbers numbers(bytes.subspan(2));
  std::size_t header[3];
  for (std::size_t& number : header) {
    const std::optional<std::size_t> found =
        bytes.size() > 2 && (is_blank(bytes[2]) || bytes[2] == '#') ? numbers.next() : std::nullopt;
    if (!found.has_value())
      return Status::invalid(
          "expected a PGM header of width, height and largest value, got something else");
    number = *found;
  }
  const auto [width, height, most] = header;
  if (Status bad = check_sides(width, height); !bad.ok()) return bad;
  if (most < 1 || most > 255)
    return Status::invalid("expected a picture of 8 bits (largest value 1 to 255), got " +
                           std::to_string(most));
  // Each pixel is at least a byte.
  const ByteSpan rest = numbers.rest();
  if (width * height > rest.size())
    return Status::invalid("expected " + std::to_string(width * height) + " pixels, got " +
                           std::to_string(rest.size()) + " bytes: it is truncated");
  Picture picture{width, height, {}};
  Result<Bytes> pixels = Bytes::of(width * height);
  if (!pixels.ok()) return std::move(pixels).status();
  picture.pixels = *std::move(pixels);
  // One blank, and one alone, stands between the header and bytes.
  if (!digits && !is_blank(rest[0]))
    return Status::invalid("expected a blank behind the PGM header, got something else");
  if (Status bad = digits ? read_digits_into(numbers, most, picture.pixels)
                          : read_bytes_into(rest.subspan(1), most, picture.pixels);
      !bad.ok())
    return bad;
  return picture;
}

}  // namespace fastmnist::run
