// PNG pictures as gray of 8 bits: of all types and depths, but not interlaced, and opaque.
#pragma once

#include "run/readers/picture.h"

namespace fastmnist::run {

bool is_png(ByteSpan bytes);

// Colors become gray as 0.299 red + 0.587 green + 0.114 blue (ITU-R BT.601), 16 bits are rounded to
// 8, fewer are spread over 0 to 255; profiles and gamma are not applied. All checksums are checked,
// and the size against the compressed bytes before memory is taken. Takes at most 1032 bytes for
// one of the file's, and as much as the picture's pixels again.
Result<Picture> read_png(ByteSpan bytes);

}  // namespace fastmnist::run
