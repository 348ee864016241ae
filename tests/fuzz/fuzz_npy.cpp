// npy files: rows and labels.
#include "fuzz.h"
#include "run/readers/npy.h"

using namespace fastmnist::run;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fastmnist::Result<Array> array = view_npy({data, size});
  if (!array.ok()) return 0;
  (void)floats_of(*array).ok();
  (void)integers_of(*array).ok();
  return 0;
}
