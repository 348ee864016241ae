// Compressed files of models. By themselves, as each costs as much time as a hundred plain ones.
#include "models.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::run_file({data, size});
  return 0;
}
