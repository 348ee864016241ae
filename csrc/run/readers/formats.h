// Which form a file has, by its first bytes, and what is in it.
#pragma once

#include <optional>

#include "run/readers/array.h"
#include "run/readers/picture.h"

namespace fastmnist::run {

// An array or a picture; of gzip what is in it.
struct Content {
  Bytes bytes;  // what the array looks at
  std::optional<Array> array;
  Picture picture;
};

Result<Content> read_content(Bytes bytes);

}  // namespace fastmnist::run
