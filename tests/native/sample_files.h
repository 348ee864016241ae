// Small files of each form that fastmnist-run reads, made in memory.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#if defined(FASTMNIST_ZLIB)
#include <zlib.h>
#endif

#include "check.h"

namespace samples {

using Text = std::string;  // bytes

inline std::span<const std::uint8_t> bytes_of(const Text& text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

inline Text big_endian(std::uint32_t number) {
  Text text;
  for (int shift = 24; shift >= 0; shift -= 8) text += static_cast<char>(number >> shift);
  return text;
}

inline Text idx(int type, const std::vector<std::uint32_t>& shape, const Text& values) {
  Text text = Text(2, '\0') + static_cast<char>(type) + static_cast<char>(shape.size());
  for (const std::uint32_t n : shape) text += big_endian(n);
  return text + values;
}

inline Text npy(const Text& header, const Text& values, int version = 1) {
  const Text text = header + "\n";
  Text length;
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i)
    length += static_cast<char>(text.size() >> 8 * i);
  return "\x93NUMPY" + Text(1, static_cast<char>(version)) + Text(1, '\0') + length + text + values;
}

#if defined(FASTMNIST_ZLIB)

// `window`: 15 for zlib, + 16 for gzip.
inline Text deflated(const Text& text, int window) {
  z_stream stream{};
  check::require(deflateInit2(&stream, 9, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY) == Z_OK,
                 "deflateInit2", __FILE__, __LINE__);
  Text out(deflateBound(&stream, text.size()), '\0');
  stream.next_in = const_cast<Bytef*>(bytes_of(text).data());
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int result = deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  check::require(result == Z_STREAM_END, "deflate", __FILE__, __LINE__);
  return out;
}

inline Text gzip(const Text& text) { return deflated(text, 15 + 16); }

struct PngHeader {
  std::uint32_t width;
  std::uint32_t height;
  int depth;
  int color;
  int interlace = 0;
};

inline Text chunk(const Text& type, const Text& data) {
  const Text checked = type + data;
  const auto crc = crc32_z(0, bytes_of(checked).data(), checked.size());
  return big_endian(static_cast<std::uint32_t>(data.size())) + checked +
         big_endian(static_cast<std::uint32_t>(crc));
}

// `rows`: with the filter before each. `others`: chunks between header and pixels.
inline Text png_of(const PngHeader& header, const Text& rows, const Text& others) {
  const Text about = big_endian(header.width) + big_endian(header.height) +
                     static_cast<char>(header.depth) + static_cast<char>(header.color) +
                     Text(2, '\0') + static_cast<char>(header.interlace);
  const Text pixels = deflated(rows, 15);
  // In two chunks, as writers do with larger ones.
  return "\x89PNG\r\n\x1a\n" + chunk("IHDR", about) + others + chunk("IDAT", pixels.substr(0, 5)) +
         chunk("IDAT", pixels.substr(5)) + chunk("IEND", "");
}

inline Text png(const PngHeader& header, const Text& rows, const Text& palette = "") {
  return png_of(header, rows, palette.empty() ? "" : chunk("PLTE", palette));
}

inline Text png_with(const Text& type, const Text& data, const PngHeader& header,
                     const Text& rows) {
  return png_of(header, rows, chunk(type, data));
}

#endif

}  // namespace samples
