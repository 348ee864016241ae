// The real values of pixels, by a table of 256 floats a channel; features are channel-major.
#pragma once

#include <cstdint>

namespace fastmnist {

inline void look_up_pixels(const float* table, std::int64_t channels, const std::uint8_t* pixels,
                           std::int64_t count, float* values) {
  const std::int64_t channel = count / channels;
  for (std::int64_t c = 0; c < channels; ++c, table += 256)
    for (std::int64_t k = 0; k < channel; ++k) *values++ = table[*pixels++];
}

}  // namespace fastmnist
