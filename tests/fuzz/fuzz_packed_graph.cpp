// Packed graphs: refused, or run on rows of floats and pixels.
#include "fuzz.h"
#include "pack/graph.h"
#include "runtime/graph_executor.h"

using namespace fastmnist;

namespace {

// Larger ones than a mutation makes of the corpus' are but slow.
constexpr std::size_t kMostValues = 1 << 16;

void run(const GraphView& graph, bool as_pixels, std::size_t rows) {
  std::vector<std::vector<float>> floats;
  std::vector<std::vector<std::uint8_t>> pixels;
  std::vector<GraphInput> inputs;
  for (std::size_t i = 0; i < graph.inputs().size(); ++i) {
    const std::size_t values = rows * static_cast<std::size_t>(graph.input(i).size());
    if (values > kMostValues) return;
    floats.push_back(fuzz::float_rows(values));
    pixels.push_back(fuzz::pixel_rows(values));
    const bool takes = as_pixels && graph.inputs()[i].pixels != PixelKind::kNone;
    inputs.push_back(takes ? GraphInput{RowType::kPixels, pixels.back().data()}
                           : GraphInput{RowType::kFloat32, floats.back().data()});
  }
  std::vector<std::vector<std::int64_t>> memory;  // wide enough for either type
  std::vector<void*> outputs;
  for (std::size_t i = 0; i < graph.outputs().size(); ++i) {
    const std::size_t values = rows * static_cast<std::size_t>(graph.output(i).size());
    if (values > kMostValues) return;
    memory.emplace_back(graph.gives_indexes(i) ? values : (values + 1) / 2);
    outputs.push_back(memory.back().data());
  }
  (void)run_graph(graph, inputs, static_cast<std::int64_t>(rows), outputs, nullptr, 1).ok();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::Aligned packed({data, size});
  const Result<GraphView> graph = view_graph(packed.bytes());
  if (!graph.ok()) return 0;
  if (graph->header().scratch > kMostValues) return 0;
  for (const bool as_pixels : {false, true})
    for (const std::size_t rows : {1, 5}) run(*graph, as_pixels, rows);
  return 0;
}
