// A module that is a chain of layers, as its description and tensors have it.
//
// The description's field "chain" lists the steps of the model's forward, "replaced" what layers
// that are not torch's own are, by path. Steps that compute nothing in eval mode are left out,
// clamps and activations put into the layer before them, int8 layers that follow each other joined:
// the very graph that fm.compile makes of the model. A row is one run of features; layers that only
// torch computes, or that work along other dimensions, are refused.
#pragma once

#include "files/reading.h"
#include "files/saved_model.h"

namespace fastmnist {

SavedGraph read_chain(Reading& reading);

}  // namespace fastmnist
