// PGM, the plainest form of a gray picture: P5 (bytes) and P2 (digits), up to 255.
#pragma once

#include "run/readers/picture.h"

namespace fastmnist::run {

// Whether it is of that family: P1 to P7.
bool is_pgm(ByteSpan bytes);

Result<Picture> read_pgm(ByteSpan bytes);

}  // namespace fastmnist::run
