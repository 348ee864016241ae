// npy, what numpy.save writes: versions 1 to 3, little-endian, in C order.
#pragma once

#include "run/readers/array.h"

namespace fastmnist::run {

bool is_npy(ByteSpan bytes);

// The bytes must live as long as the array. Refused are objects (nothing is unpickled), records,
// big-endian numbers, Fortran order, and types that rows and labels cannot have.
Result<Array> view_npy(ByteSpan bytes);

}  // namespace fastmnist::run
