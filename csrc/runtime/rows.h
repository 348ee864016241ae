// Rows as callers hand them over.
#pragma once

#include <cstdint>

namespace fastmnist {

enum class RowType { kFloat32, kPixels };

struct Rows {
  RowType type;
  const void* data;  // of as many values each as the network has inputs, contiguous
  std::int64_t count;
};

}  // namespace fastmnist
