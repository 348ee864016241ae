// Activations, norms and softmax of a chain: torch's classes by name, with their arguments.
#pragma once

#include <string>

#include "files/reading.h"
#include "files/saved_model.h"

namespace fastmnist {

// What a chain's step becomes before it has its values.
struct ChainStep {
  SavedStep step;
  std::int64_t inputs = 0;   // features of a row; 0: as many as there are
  std::int64_t outputs = 0;  // 0: as many as the inputs
};

// One that computes its inputs times a gain plus a shift: a BatchNorm1d in eval mode.
ChainStep read_batchnorm(Reading& reading, const std::string& prefix, double epsilon, bool affine);

// GLU alone is no single step: is_glu is true, and the step the sigmoid of its gate.
ChainStep read_native(Reading& reading, const std::string& path, const std::string& prefix,
                      JsonValue record, bool& is_glu);

}  // namespace fastmnist
