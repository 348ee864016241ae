// A gray picture of 8 bits, light on dark or dark on light as the file has it.
#pragma once

#include "run/readers/memory.h"

namespace fastmnist::run {

// Of width and height.
inline constexpr std::size_t kMostPictureSide = 10000;

struct Picture {
  std::size_t width = 0;
  std::size_t height = 0;
  Bytes pixels;  // [height, width]
};

// Refuses sides that are 0 or too long.
inline Status check_sides(std::size_t width, std::size_t height) {
  if (width >= 1 && height >= 1 && width <= kMostPictureSide && height <= kMostPictureSide)
    return {};
  return Status::invalid("expected a picture of 1 x 1 to " + std::to_string(kMostPictureSide) +
                         " x " + std::to_string(kMostPictureSide) + " pixels, got " +
                         std::to_string(width) + " x " + std::to_string(height));
}

}  // namespace fastmnist::run
