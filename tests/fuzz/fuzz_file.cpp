// Plain files of models: refused, or each model in them refused, or run.
#include "models.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::run_file({data, size});
  return 0;
}
