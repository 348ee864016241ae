// Chains of int8 layers, and single ones, as descriptions and tensors have them.
#pragma once

#include <string>

#include "files/reading.h"
#include "files/saved_model.h"

namespace fastmnist {

// A network of one layer. `record` has kind, name, clamp, pixels, and maybe function, bias,
// input_zeros; tensors are called `<prefix>weight_int8` and so on.
SavedNetwork read_layer(Reading& reading, const std::string& prefix, JsonValue record);

// The record's field "layers" lists them; tensors are called `<prefix>layers.<i>.…`.
SavedNetwork read_network(Reading& reading, const std::string& prefix, JsonValue record);

// Whether rows may go from one to the other as codes, or as rows if both are dynamic.
bool can_follow(const SavedNetwork& network, const SavedNetwork& next);
void append(SavedNetwork& network, SavedNetwork next);

}  // namespace fastmnist
