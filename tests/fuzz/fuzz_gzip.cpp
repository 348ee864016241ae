// Files of any form, as they are named on the command line; .gz among them.
#include "fuzz.h"
#include "run/readers/formats.h"

using namespace fastmnist::run;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fastmnist::Result<Bytes> bytes = Bytes::of(size);
  if (!bytes.ok()) return 0;
  std::copy(data, data + size, (*bytes).data());
  (void)read_content(*std::move(bytes)).ok();
  return 0;
}
