#include "run/readers/png_chunks.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "run/readers/inflate.h"
#include "run/readers/picture.h"
#include "run/readers/png.h"

namespace fastmnist::run {
namespace {

constexpr std::uint8_t kSignature[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

std::uint32_t number_at(ByteSpan bytes, std::size_t at) {
  return std::uint32_t{bytes[at]} << 24 | std::uint32_t{bytes[at + 1]} << 16 |
         std::uint32_t{bytes[at + 2]} << 8 | std::uint32_t{bytes[at + 3]};
}

struct Chunk {
  std::string_view type;
  ByteSpan data;
};

// Takes the next chunk off `bytes`: length, type, data, checksum.
Result<Chunk> take_chunk(ByteSpan& bytes) {
  const auto truncated = [] {
    return Status::invalid("expected a PNG chunk, got the end: it is truncated");
  };
  if (bytes.size() < 12) return truncated();
  const std::size_t length = number_at(bytes, 0);
  if (length > bytes.size() - 12) return truncated();
  Chunk chunk{{reinterpret_cast<const char*>(bytes.data()) + 4, 4}, bytes.subspan(8, length)};
  for (const char c : chunk.type)
    if ((c < 'A' || c > 'Z') && (c < 'a' || c > 'z'))
      return Status::invalid("expected a PNG chunk, got something else: it is damaged");
  if (crc_of(bytes.subspan(4, 4 + length)) != number_at(bytes, 8 + length))
    return Status::invalid("expected a PNG chunk '" + std::string(chunk.type) +
                           "' with its checksum, got another: it is damaged");
  bytes = bytes.subspan(12 + length);
  return chunk;
}

bool is_depth_of(PngColor color, unsigned depth) {
  switch (color) {
    case PngColor::kGray:
      return depth == 1 || depth == 2 || depth == 4 || depth == 8 || depth == 16;
    case PngColor::kPalette:
      return depth == 1 || depth == 2 || depth == 4 || depth == 8;
    default:
      return depth == 8 || depth == 16;
  }
}

Status read_header(ByteSpan data, PngChunks& png) {
  if (data.size() != 13)
    return Status::invalid("expected a PNG header of 13 bytes, got " + std::to_string(data.size()));
  png.width = number_at(data, 0);
  png.height = number_at(data, 4);
  if (Status bad = check_sides(png.width, png.height); !bad.ok()) return bad;
  png.depth = data[8];
  png.color = static_cast<PngColor>(data[9]);
  const bool known = data[9] <= 6 && png.channels() != 0;
  if (!known || !is_depth_of(png.color, png.depth))
    return Status::invalid("expected a color type and depth that PNG has, got type " +
                           std::to_string(data[9]) + " of " + std::to_string(png.depth) + " bits");
  if (data[10] != 0 || data[11] != 0)
    return Status::invalid("expected PNG's compression and filter method 0, got " +
                           std::to_string(data[10]) + " and " + std::to_string(data[11]));
  if (data[12] != 0)
    return Status::invalid("expected a PNG that is not interlaced, got interlace method " +
                           std::to_string(data[12]) + ": save it without");
  return {};
}

Status read_palette(ByteSpan data, PngChunks& png) {
  const std::size_t most = png.color == PngColor::kPalette ? std::size_t{1} << png.depth : 256;
  const bool takes = png.color != PngColor::kGray && png.color != PngColor::kGrayAlpha;
  if (!takes || !png.palette.empty() || !png.parts.empty() || data.empty() ||
      data.size() % 3 != 0 || data.size() / 3 > most)
    return Status::invalid("expected at most one palette of 3 to " + std::to_string(3 * most) +
                           " bytes before the pixels, got another, or one of " +
                           std::to_string(data.size()) + " bytes");
  png.palette = data;
  return {};
}

Status read_transparency(ByteSpan data, PngChunks& png) {
  if (png.color != PngColor::kPalette)
    return Status::invalid(
        "expected an opaque picture, got one with a transparent color: "
        "save it without");
  if (!png.transparency.empty() || !png.parts.empty() || data.size() > png.palette.size() / 3)
    return Status::invalid(
        "expected at most one transparency for each color of the palette, "
        "behind it, got " +
        std::to_string(data.size()));
  png.transparency = data;
  return {};
}

Status read_chunk(const Chunk& chunk, bool follows_pixels, PngChunks& png) {
  if (chunk.type == "IDAT") {
    if (!png.parts.empty() && !follows_pixels)
      return Status::invalid("expected pixels without other chunks between them, got some");
    png.parts.push_back(chunk.data);
    return {};
  }
  if (chunk.type == "PLTE") return read_palette(chunk.data, png);
  if (chunk.type == "tRNS") return read_transparency(chunk.data, png);
  // What begins with a small letter may be left out.
  if (chunk.type[0] >= 'a') return {};
  return Status::invalid("expected chunks that PNG has, got '" + std::string(chunk.type) + "'");
}

}  // namespace

bool is_png(ByteSpan bytes) {
  return bytes.size() >= sizeof kSignature &&
         std::equal(std::begin(kSignature), std::end(kSignature), bytes.begin());
}

Result<PngChunks> read_png_chunks(ByteSpan bytes) {
  if (!is_png(bytes)) return Status::invalid("expected a PNG picture, got another file");
  bytes = bytes.subspan(sizeof kSignature);
  PngChunks png;
  bool has_header = false, follows_pixels = false;
  while (true) {
    Result<Chunk> chunk = take_chunk(bytes);
    if (!chunk.ok()) return std::move(chunk).status();
    if ((chunk->type == "IHDR") == has_header)
      return Status::invalid("expected one PNG header, and that first, got '" +
                             std::string(chunk->type) + "'");
    if (!has_header) {
      if (Status bad = read_header(chunk->data, png); !bad.ok()) return bad;
      has_header = true;
    } else if (chunk->type == "IEND") {
      break;
    } else if (Status bad = read_chunk(*chunk, follows_pixels, png); !bad.ok()) {
      return bad;
    }
    follows_pixels = chunk->type == "IDAT";
  }
  if (!bytes.empty())
    return Status::invalid("expected the end of the PNG picture, got " +
                           std::to_string(bytes.size()) + " more bytes");
  if (png.color == PngColor::kPalette && png.palette.empty())
    return Status::invalid("expected a palette, got none");
  return png;
}

}  // namespace fastmnist::run
