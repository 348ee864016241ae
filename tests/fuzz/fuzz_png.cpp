// PNG pictures: as they are, with their checksums put right, and with what stands for the pixels
// compressed first, so that not only checksums and zlib are tested.
#include <zlib.h>

#include <string>

#include "fuzz.h"
#include "run/readers/png.h"

using namespace fastmnist::run;

namespace {

constexpr std::size_t kSignature = 8;

void put_number(std::string& text, std::size_t number) {
  for (int shift = 24; shift >= 0; shift -= 8) text += static_cast<char>(number >> shift);
}

void put_chunk(std::string& text, const std::string& type_and_data) {
  put_number(text, type_and_data.size() - 4);
  text += type_and_data;
  const auto* bytes = reinterpret_cast<const Bytef*>(type_and_data.data());
  put_number(text, crc32_z(0, bytes, type_and_data.size()));
}

std::string compressed(const std::string& text) {
  uLongf size = compressBound(text.size());
  std::string out(size, '\0');
  compress2(reinterpret_cast<Bytef*>(out.data()), &size,
            reinterpret_cast<const Bytef*>(text.data()), text.size(), 1);
  out.resize(size);
  return out;
}

// The chunks once more, of lengths that fit; IHDR's dimensions stay small.
std::string mended(fuzz::Bytes bytes, bool compress) {
  std::string text(bytes.begin(), bytes.begin() + kSignature);
  bytes = bytes.subspan(kSignature);
  std::string pixels;
  while (bytes.size() >= 12) {
    const std::size_t length = std::min<std::size_t>(bytes[2] * 256u + bytes[3], bytes.size() - 12);
    const std::string chunk(bytes.begin() + 4, bytes.begin() + 8 + static_cast<long>(length));
    bytes = bytes.subspan(12 + length);
    if (compress && chunk.compare(0, 4, "IDAT") == 0) {
      pixels += chunk.substr(4);
      continue;
    }
    if (compress && chunk.compare(0, 4, "IEND") == 0) put_chunk(text, "IDAT" + compressed(pixels));
    put_chunk(text, chunk);
  }
  return text;
}

void read(fuzz::Bytes bytes) {
  const fastmnist::Result<Picture> picture = read_png(bytes);
  if (picture.ok() && picture->pixels.size() != picture->width * picture->height) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  read({data, size});
  if (size < kSignature) return 0;
  for (const bool compress : {false, true}) {
    const std::string text = mended({data, size}, compress);
    const std::vector<std::uint8_t> copy(text.begin(), text.end());  // ends where it ends
    read(copy);
  }
  return 0;
}
