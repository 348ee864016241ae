// PGM pictures.
#include "fuzz.h"
#include "run/readers/pgm.h"

using namespace fastmnist::run;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fastmnist::Result<Picture> picture = read_pgm({data, size});
  if (picture.ok() && picture->pixels.size() != picture->width * picture->height) std::abort();
  return 0;
}
