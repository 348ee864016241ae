// IDX, the form in which MNIST is published: 0, 0, a type, the number of dimensions, each of them
// in 32 bits, then the values; all of it highest byte first.
#pragma once

#include "run/readers/array.h"

namespace fastmnist::run {

bool is_idx(ByteSpan bytes);

// The bytes must live as long as the array.
Result<Array> view_idx(ByteSpan bytes);

}  // namespace fastmnist::run
