#include "run/readers/formats.h"

#include <string_view>
#include <utility>

#include "run/readers/idx.h"
#include "run/readers/inflate.h"
#include "run/readers/npy.h"
#include "run/readers/pgm.h"
#include "run/readers/png.h"

namespace fastmnist::run {
namespace {

// What people have, and what to do with it.
std::string known_others(ByteSpan bytes) {
  const std::string_view begin(reinterpret_cast<const char*>(bytes.data()),
                               std::min<std::size_t>(bytes.size(), 16));
  if (begin.empty()) return "an empty file";
  if (begin.starts_with("\xff\xd8\xff")) return "a JPEG picture: save it as PNG";
  if (begin.starts_with("PK\x03\x04"))
    return "a zip archive: of an .npz save each array by numpy.save";
  if (begin.starts_with("GIF8")) return "a GIF picture: save it as PNG";
  if (begin.starts_with("BM")) return "a BMP picture: save it as PNG";
  if (begin.starts_with("RIFF")) return "a RIFF file (WebP?): save it as PNG";
  if (begin.size() >= 9 && begin[8] == '{') return "a safetensors file";
  return "a file of another form";
}

}  // namespace

Result<Content> read_content(Bytes bytes) {
  Content content;
  content.bytes = std::move(bytes);
  if (is_gzip(content.bytes.values())) {
    Result<Bytes> inflated = gunzip(content.bytes.values());
    if (!inflated.ok()) return std::move(inflated).status();
    content.bytes = *std::move(inflated);
  }
  const ByteSpan all = content.bytes.values();
  if (is_idx(all) || is_npy(all)) {
    Result<Array> array = is_idx(all) ? view_idx(all) : view_npy(all);
    if (!array.ok()) return std::move(array).status();
    content.array = *std::move(array);
    return content;
  }
  if (is_png(all) || is_pgm(all)) {
    Result<Picture> picture = is_png(all) ? read_png(all) : read_pgm(all);
    if (!picture.ok()) return std::move(picture).status();
    content.picture = *std::move(picture);
    content.bytes = {};
    return content;
  }
  return Status::invalid("expected IDX, .npy, PGM or PNG (the former also as .gz), got " +
                         known_others(all));
}

}  // namespace fastmnist::run
