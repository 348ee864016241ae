// What stands in a PNG file: its chunks, checked, and the picture's description in them.
#pragma once

#include <cstdint>
#include <vector>

#include "run/readers/memory.h"

namespace fastmnist::run {

enum class PngColor : std::uint8_t {
  kGray = 0,
  kRgb = 2,
  kPalette = 3,
  kGrayAlpha = 4,
  kRgbAlpha = 6
};

struct PngChunks {
  std::size_t width = 0;
  std::size_t height = 0;
  unsigned depth = 0;  // bits of a channel
  PngColor color = PngColor::kGray;
  ByteSpan palette;             // [colors, 3]
  ByteSpan transparency;        // of palettes: an alpha for each of the first colors
  std::vector<ByteSpan> parts;  // the picture's bytes, compressed as one

  unsigned channels() const {
    constexpr unsigned kChannels[] = {1, 0, 3, 1, 2, 0, 4};
    return kChannels[static_cast<int>(color)];
  }
  // Bytes of a row of pixels, without its filter.
  std::size_t row_bytes() const { return (width * channels() * depth + 7) / 8; }
  // Bytes of a pixel; 1 where several share one.
  std::size_t pixel_bytes() const { return depth < 8 ? 1 : channels() * depth / 8; }
};

// The chunks lie in `bytes`.
Result<PngChunks> read_png_chunks(ByteSpan bytes);

}  // namespace fastmnist::run
