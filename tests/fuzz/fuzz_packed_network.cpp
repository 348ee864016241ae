// Packed networks: refused, or run on rows of floats and pixels.
#include "fuzz.h"
#include "pack/network.h"
#include "runtime/executor.h"
#include "runtime/predict.h"

using namespace fastmnist;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::Aligned packed({data, size});
  const Result<NetworkView> network = view_network(packed.bytes());
  if (!network.ok()) return 0;
  ScratchPool pool, logits_pool;
  for (const std::size_t rows : {1, 3, 17}) {
    const std::size_t values = rows * static_cast<std::size_t>(network->inputs());
    std::vector<float> logits(rows * static_cast<std::size_t>(network->outputs()));
    std::vector<std::int64_t> index(rows);
    const std::vector<float> floats = fuzz::float_rows(values);
    const std::vector<std::uint8_t> pixels = fuzz::pixel_rows(values);
    for (const Rows& some :
         {Rows{RowType::kFloat32, floats.data(), static_cast<std::int64_t>(rows)},
          Rows{RowType::kPixels, pixels.data(), static_cast<std::int64_t>(rows)}}) {
      const bool ran = run_network(*network, some, logits.data(), &pool, 1).ok();
      const bool too = predict_network(*network, some, index.data(), &pool, &logits_pool).ok();
      if (!ran || !too) continue;
      for (const std::int64_t i : index)
        if (i < 0 || i >= network->outputs()) std::abort();
    }
  }
  return 0;
}
