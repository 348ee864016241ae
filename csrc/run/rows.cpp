#include "run/rows.h"

#include <cstring>
#include <utility>

#include "run/readers/bytes.h"

namespace fastmnist::run {
namespace {

Status in_file(const std::string& file, Status status) {
  if (status.is_out_of_memory()) return status;
  return Status::invalid(file + ": " + status.text());
}

Result<Content> read_file_content(const std::string& file) {
  Result<Bytes> bytes = read_bytes(file);
  if (!bytes.ok()) return in_file(file, std::move(bytes).status());
  Result<Content> content = read_content(*std::move(bytes));
  if (!content.ok()) return in_file(file, std::move(content).status());
  return content;
}

Status take_array(Content content, Rows& rows) {
  const Array& array = *content.array;
  if (array.shape.size() < 2)
    return Status::invalid("expected rows of values, [rows, ...], got one dimension of " +
                           text_of(array.shape) + ": of a single row save x.reshape(1, -1)");
  rows.count = array.shape[0];
  rows.shape.assign(array.shape.begin() + 1, array.shape.end());
  rows.size = array.count() / rows.count;
  rows.are_pixels = array.element == Element::kUint8;
  if (rows.are_pixels) {
    rows.begin = static_cast<std::size_t>(array.bytes.data() - content.bytes.data());
    rows.bytes = std::move(content.bytes);
    return {};
  }
  Result<Memory<float>> floats = floats_of(array);
  if (!floats.ok()) return std::move(floats).status();
  rows.floats = *std::move(floats);
  return {};
}

Status take_pictures(const std::vector<std::string>& files, Content first, Rows& rows) {
  const std::size_t width = first.picture.width, height = first.picture.height;
  rows.are_pictures = rows.are_pixels = true;
  rows.count = files.size();
  rows.shape = {height, width};
  rows.size = width * height;
  if (rows.count > PTRDIFF_MAX / rows.size) return Status::out_of_memory();
  Result<Bytes> bytes = Bytes::of(rows.count * rows.size);
  if (!bytes.ok()) return std::move(bytes).status();
  rows.bytes = *std::move(bytes);
  std::memcpy(rows.bytes.data(), first.picture.pixels.data(), rows.size);
  for (std::size_t i = 1; i < files.size(); ++i) {
    Result<Content> content = read_file_content(files[i]);
    if (!content.ok()) return std::move(content).status();
    const Picture& picture = content->picture;
    if (content->array.has_value())
      return Status::invalid(files[i] + ": expected a picture, as the first file, got an array");
    if (picture.width != width || picture.height != height)
      return Status::invalid(files[i] + ": expected a picture of " + std::to_string(width) + " x " +
                             std::to_string(height) + " pixels, as the first one, got " +
                             std::to_string(picture.width) + " x " +
                             std::to_string(picture.height));
    std::memcpy(rows.bytes.data() + i * rows.size, picture.pixels.data(), rows.size);
  }
  return {};
}

}  // namespace

Result<Rows> read_rows(const std::vector<std::string>& files, bool invert) {
  Rows rows;
  rows.files = files;
  Result<Content> first = read_file_content(files[0]);
  if (!first.ok()) return std::move(first).status();
  if (first->array.has_value()) {
    if (files.size() > 1)
      return Status::invalid(files[0] + ": expected one file of rows, or pictures, got rows and " +
                             std::to_string(files.size() - 1) + " more files");
    if (Status bad = take_array(*std::move(first), rows); !bad.ok())
      return in_file(files[0], std::move(bad));
  } else if (Status bad = take_pictures(files, *std::move(first), rows); !bad.ok()) {
    return bad;
  }
  if (!invert) return rows;
  if (!rows.are_pixels)
    return Status::invalid(files[0] + ": expected pixels, which --invert is for, got floats");
  for (std::size_t i = rows.begin; i < rows.bytes.size(); ++i)
    rows.bytes[i] = static_cast<std::uint8_t>(255 - rows.bytes[i]);
  return rows;
}

bool look_dark_on_light(const Rows& rows) {
  if (!rows.are_pictures) return false;
  const std::size_t height = rows.shape[0], width = rows.shape[1];
  std::size_t light = 0;
  for (std::size_t row = 0; row < rows.count; ++row) {
    const std::uint8_t* const pixels = rows.pixels(row);
    std::uint64_t sum = 0, count = 0;
    for (std::size_t y = 0; y < height; ++y) {
      const bool all = y == 0 || y + 1 == height;
      for (std::size_t x = 0; x < width; x += all || width == 1 ? 1 : width - 1, ++count)
        sum += pixels[y * width + x];
    }
    light += sum > 127 * count;
  }
  return 2 * light > rows.count;
}

Result<Memory<std::int64_t>> read_labels(const std::string& file, std::size_t count) {
  Result<Content> content = read_file_content(file);
  if (!content.ok()) return std::move(content).status();
  if (!content->array.has_value())
    return Status::invalid(file + ": expected labels, IDX or .npy, got a picture");
  const Array& array = *content->array;
  if (array.shape[0] != count || array.count() != count)
    return Status::invalid(file + ": expected a label for each of " + std::to_string(count) +
                           " rows, got " + text_of(array.shape));
  Result<Memory<std::int64_t>> labels = integers_of(array);
  if (!labels.ok()) return in_file(file, std::move(labels).status());
  return labels;
}

}  // namespace fastmnist::run
