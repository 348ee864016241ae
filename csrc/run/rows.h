// Rows and labels, as files have them.
#pragma once

#include <string>
#include <vector>

#include "run/readers/formats.h"

namespace fastmnist::run {

// One behind the other, of as many values each as `shape` asks for.
struct Rows {
  std::vector<std::string> files;
  bool are_pictures = false;  // a file each
  bool are_pixels = false;    // uint8, else float32
  std::size_t count = 0;
  std::vector<std::size_t> shape;  // of one
  std::size_t size = 0;            // values of one
  Bytes bytes;                     // of pixels; `pixels` begin in it
  std::size_t begin = 0;
  Memory<float> floats;

  const std::uint8_t* pixels(std::size_t row) const { return bytes.data() + begin + row * size; }
  const float* values(std::size_t row) const { return floats.data() + row * size; }
};

// One file of rows, or pictures of one size. Inverted: 255 - pixel.
Result<Rows> read_rows(const std::vector<std::string>& files, bool invert);

// Whether the edges of most pictures are light: MNIST's digits lie on black.
bool look_dark_on_light(const Rows& rows);

// So many integers.
Result<Memory<std::int64_t>> read_labels(const std::string& file, std::size_t count);

}  // namespace fastmnist::run
