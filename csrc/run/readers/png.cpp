#include "run/readers/png.h"

#include <cstdlib>
#include <string>

#include "run/readers/inflate.h"
#include "run/readers/png_chunks.h"

namespace fastmnist::run {
namespace {

// What PNG's fourth filter takes: whichever of left, above and left above is nearest to
// left + above - left above, in that order where several are.
int paeth(int left, int above, int corner) {
  const int to_left = std::abs(above - corner), to_above = std::abs(left - corner);
  const int to_corner = std::abs(left + above - 2 * corner);
  if (to_left <= to_above && to_left <= to_corner) return left;
  return to_above <= to_corner ? above : corner;
}

// Takes a row's filter off, in place. `above` is the row before without its filter, of zeros for
// the first; `step` the bytes of a pixel.
bool unfilter(std::uint8_t filter, std::span<std::uint8_t> row, const std::uint8_t* above,
              std::size_t step) {
  if (filter > 4) return false;
  for (std::size_t i = 0; filter != 0 && i < row.size(); ++i) {
    const int left = i >= step ? row[i - step] : 0;
    const int up = above[i], corner = i >= step ? above[i - step] : 0;
    const int guesses[] = {0, left, up, (left + up) / 2, paeth(left, up, corner)};
    row[i] = static_cast<std::uint8_t>(row[i] + guesses[filter]);
  }
  return true;
}

unsigned gray_of(unsigned red, unsigned green, unsigned blue) {
  // The weights of 65,536 add up to it, so that a gray color stays what it is.
  return (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16;
}

// Channels of a row, 8 bits each; palettes' places as they are.
class Row {
 public:
  Row(const PngChunks& png, const std::uint8_t* bytes) : png_(png), bytes_(bytes) {}

  unsigned raw(std::size_t i) const {
    const unsigned depth = png_.depth;
    if (depth == 16) return bytes_[2 * i] * 256u + bytes_[2 * i + 1];
    if (depth == 8) return bytes_[i];
    const std::size_t in_byte = 8 / depth;
    const unsigned shift = static_cast<unsigned>((in_byte - 1 - i % in_byte) * depth);
    return bytes_[i / in_byte] >> shift & ((1u << depth) - 1);
  }
  unsigned value(std::size_t i) const {
    const unsigned most = (1u << png_.depth) - 1;
    return (raw(i) * 255 + most / 2) / most;
  }

 private:
  const PngChunks& png_;
  const std::uint8_t* bytes_;
};

Status transparent() {
  return Status::invalid(
      "expected an opaque picture, got transparent pixels: put it on a background first");
}

Status gray_from_palette(const PngChunks& png, const Row& row, std::uint8_t* gray) {
  for (std::size_t x = 0; x < png.width; ++x) {
    const std::size_t place = row.raw(x);
    if (3 * place >= png.palette.size())
      return Status::invalid("expected places in a palette of " +
                             std::to_string(png.palette.size() / 3) + " colors, got " +
                             std::to_string(place));
    if (place < png.transparency.size() && png.transparency[place] != 255) return transparent();
    const std::uint8_t* color = png.palette.data() + 3 * place;
    gray[x] = static_cast<std::uint8_t>(gray_of(color[0], color[1], color[2]));
  }
  return {};
}

Status gray_from_row(const PngChunks& png, const Row& row, std::uint8_t* gray) {
  if (png.color == PngColor::kPalette) return gray_from_palette(png, row, gray);
  const unsigned channels = png.channels();
  const unsigned opaque = (1u << png.depth) - 1;
  for (std::size_t x = 0; x < png.width; ++x) {
    const std::size_t at = x * channels;
    if (channels % 2 == 0 && row.raw(at + channels - 1) != opaque) return transparent();
    gray[x] = static_cast<std::uint8_t>(
        channels < 3 ? row.value(at)
                     : gray_of(row.value(at), row.value(at + 1), row.value(at + 2)));
  }
  return {};
}

}  // namespace

Result<Picture> read_png(ByteSpan bytes) {
  if (!kZlib)
    return Status::invalid("built without zlib: expected an uncompressed file, got a PNG picture");
  Result<PngChunks> chunks = read_png_chunks(bytes);
  if (!chunks.ok()) return std::move(chunks).status();
  const PngChunks& png = *chunks;
  const std::size_t stride = 1 + png.row_bytes();  // a filter before each row
  const std::size_t size = png.height * stride;
  std::size_t compressed = 0;
  for (const ByteSpan part : png.parts) compressed += part.size();
  if (size / kMostInflation > compressed)
    return Status::invalid("expected the pixels of " + std::to_string(png.width) + " x " +
                           std::to_string(png.height) + ", got " + std::to_string(compressed) +
                           " compressed bytes, which cannot be so many");
  Result<Bytes> content = inflate_parts(png.parts, size);
  if (!content.ok()) return std::move(content).status();
  Result<Bytes> pixels = Bytes::of(png.width * png.height);
  if (!pixels.ok()) return std::move(pixels).status();
  Picture picture{png.width, png.height, *std::move(pixels)};
  const std::vector<std::uint8_t> zeros(png.row_bytes());
  const std::uint8_t* above = zeros.data();
  for (std::size_t y = 0; y < png.height; ++y) {
    std::uint8_t* const line = (*content).data() + y * stride;
    const std::span<std::uint8_t> row(line + 1, png.row_bytes());
    if (!unfilter(line[0], row, above, png.pixel_bytes()))
      return Status::invalid("expected PNG's filters 0 to 4, got " + std::to_string(line[0]));
    std::uint8_t* const gray = picture.pixels.data() + y * png.width;
    if (Status bad = gray_from_row(png, Row(png, row.data()), gray); !bad.ok()) return bad;
    above = row.data();
  }
  return picture;
}

}  // namespace fastmnist::run
