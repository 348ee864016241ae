#include "files/saved_model.h"

#include <utility>

#include "files/chain_record.h"
#include "files/graph_record.h"
#include "files/network_record.h"
#include "files/reading.h"

namespace fastmnist {

// As python/fastmnist/pixels.py has it, each operation in float32.
std::vector<float> SavedPixels::table() const {
  std::vector<float> values;
  values.reserve(256 * channels());
  for (std::size_t c = 0; c < channels(); ++c) {
    const bool is_raw = mean[c] == 0 && std[c] == 1.0 / 255;
    for (int pixel = 0; pixel < 256; ++pixel) {
      const auto p = static_cast<float>(pixel);
      const float real = (p / 255.0f - static_cast<float>(mean[c])) / static_cast<float>(std[c]);
      values.push_back(is_raw ? p : real);
    }
  }
  return values;
}

Result<SavedGraph> read_model(const ModelFile& file, std::size_t model) {
  Reading reading(file, model);
  const JsonValue description = reading.description();
  const std::string type = reading.text(description, "type");
  SavedGraph graph;
  const std::optional<JsonValue> chain = description.find("chain");
  const bool is_chain = type == "module" && chain && chain->is_array();
  if ((type == "compiled" || type == "module") && description.find("graph") && !is_chain) {
    // A module's own tensors have no names that begin with a dot.
    graph = read_graph(reading, type == "module" ? ".graph." : "graph.",
                       reading.field(description, "graph", JsonKind::kObject));
  } else if (type == "compiled") {
    SavedNetwork network =
        read_network(reading, "network.", reading.field(description, "network", JsonKind::kObject));
    if (reading.ok()) graph = graph_of(std::move(network));
  } else if (type == "module") {
    graph = read_chain(reading);
  } else {
    reading.invalid("type", "'compiled' or 'module'", "'" + type + "'");
  }
  if (reading.ok()) check_graph(reading, graph);
  if (reading.ok()) return graph;
  Status bad = reading.take_status();
  if (bad.is_out_of_memory()) return bad;
  return Status::invalid("model '" + std::string(file.name(model)) + "': " + bad.text());
}

}  // namespace fastmnist
