// A compiled graph, as its description and tensors have it.
#pragma once

#include <string>

#include "files/reading.h"
#include "files/saved_model.h"

namespace fastmnist {

// Tensors are called `<prefix>steps.<i>.…` and `<prefix>values.<i>`.
SavedGraph read_graph(Reading& reading, const std::string& prefix, JsonValue record);

// That indexes are there, tables as large as packing reads them, and channels of pixels divide what
// they are of. Of any graph, wherever it came from.
void check_graph(Reading& reading, const SavedGraph& graph);

// A graph of one step, whose rows may have any shape of so many numbers.
SavedGraph graph_of(SavedNetwork network);

}  // namespace fastmnist
